"""Copies, volumes and builds: paths and links that a tenant names, which a privileged part must not follow out of the tenant's tree.

The control does the same act as who joins names to a folder and opens them: it gets what lies outside.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
import urllib.parse
from contextlib import suppress
from pathlib import Path

from tests.attack.attempt import Who, attempt
from tests.attack.ground import IMAGE, Ground, Tenant
from tests.engine.builds.building import context, link
from tests.engine.images.archives import Member, device, docker_archive, file, symlink, tar
from tests.support import raw

RESOLVED = "that the path is resolved in the container's or volume's root by openat2 (the control joins it to a folder)"
SWAP = """mkdir -p /w/folder; ln -s / /w/link; touch /swapping
while :; do mv -T /w/folder /w/a; mv -T /w/link /w/folder; mv -T /w/folder /w/link; mv -T /w/a /w/folder; done"""


def _joined(ground: Ground, target: str) -> str:
    """What who follows links by name reads: a tree with one link that leads out."""
    place = Path(tempfile.mkdtemp(dir=ground.folder))
    (place / "link").symlink_to(target)
    found = place / "link" if target == str(ground.outside) else place / "link" / ground.outside.name
    return found.read_text()


@attempt("e", Who.CONTAINER, RESOLVED, quick=True)
def copy_out_through_a_link(ground: Ground, walled: bool) -> str:
    """docker cp of a link to a file of the host's, absolute and climbing"""
    if not walled:
        return _joined(ground, str(ground.outside))
    for target in (
        str(ground.outside),
        "../" * 20 + str(ground.outside).lstrip("/"),
        f"/proc/1/root{ground.outside}",
        f"/proc/self/root{ground.outside}",
    ):
        ground.mallory.docker("exec", ground.cage, "sh", "-c", f"rm -f /link; ln -s {target} /link")
        _status, said = ground.mallory.ask("GET", f"/containers/{ground.cage}/archive?path=/link/.")
        _status, more = ground.mallory.ask("GET", f"/containers/{ground.cage}/archive?path=/link")
        if ground.secret.encode() in said + more:
            return target
    return ""


@attempt("e", Who.CONTAINER, RESOLVED)
def copy_while_links_are_swapped(ground: Ground, walled: bool) -> str:
    """CVE-2018-15664: a folder and a link to / change places in a loop while files are copied out of it and into it"""
    planted = Path("/", f"planted-{ground.mark}")
    if not walled:
        return _raced(ground)
    box = ground.mallory.say("run", "-d", IMAGE, "sh", "-c", SWAP)
    try:
        for number in range(60):
            path = urllib.parse.quote(f"/w/folder{ground.outside}")
            _status, said = ground.mallory.ask("GET", f"/containers/{box}/archive?path={path}")
            if ground.secret.encode() in said:
                return f"{ground.outside} was copied out"
            ground.mallory.ask("PUT", f"/containers/{box}/archive?path=/w/folder", tar(file(planted.name, b"x")), kind=raw.TAR)
            if planted.exists():
                planted.unlink()
                return f"{planted} was made, in turn {number}"
    finally:
        ground.mallory.docker("rm", "-f", box)
    return ""


def _raced(ground: Ground) -> str:
    """Who looks first whether it is a folder, and then opens by name."""
    place = Path(tempfile.mkdtemp(dir=ground.folder))
    (place / "folder").mkdir()
    (place / "link").symlink_to("/")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for old, new in (("folder", "a"), ("link", "folder"), ("folder", "link"), ("a", "folder")):
                os.rename(place / old, place / new)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(100_000):
            with suppress(OSError):
                return f"copied out: {Path(f'{place}/folder{ground.outside}').read_text()}"
    finally:
        over.set()
        thread.join()
    return ""


def _put(name: str, what: str, member: Member, *, found: str) -> None:
    """An archive into a running container. The control's extracts it as the host's root."""

    def act(ground: Ground, walled: bool) -> str:
        if walled:
            status, _said = ground.mallory.ask("PUT", f"/containers/{ground.cage}/archive?path=/tmp", tar(member), kind=raw.TAR)
            return f"status {status}" if status == 200 else ""
        place = Path(tempfile.mkdtemp(dir=ground.folder)) / "in"
        place.mkdir()
        with tarfile.open(fileobj=io.BytesIO(tar(member))) as archive:
            archive.extractall(place, filter="fully_trusted")
        return found if os.path.lexists(place / member[0].name) else ""

    attempt("e", Who.AUTHOR, "that it is extracted as root of the tenant's ids, below the destination", quick=True, name=name, what=what)(
        act
    )


_put("copy-in-of-a-device", "docker cp of a device node", device("disk", 8, 0, kind=tarfile.BLKTYPE), found="a node of 8:0")
_put("copy-in-of-a-name-that-climbs", "docker cp of ../climbed", file("../climbed", b"x"), found="a file beside the destination")


def _volume(ground: Ground, who: Tenant, name: str) -> None:
    """With links to a file and to a folder of the host's, absolute, climbing and by /proc."""
    up = "../" * 20 + str(ground.outside).lstrip("/")
    links = {"absolute": ground.outside, "climbing": up, "magic": f"/proc/1/root{ground.outside}", "folder": ground.outside.parent}
    script = "; ".join(f"ln -sfn {target} /v/{link}" for link, target in links.items())
    who.docker("run", "--rm", "-v", f"{name}:/v", IMAGE, "sh", "-c", script)


@attempt("e", Who.USER, RESOLVED, quick=True)
def browsing_a_volume_through_links(ground: Ground, walled: bool) -> str:
    """files of a volume by REST, behind links that lead out"""
    if not walled:
        return _joined(ground, str(ground.outside.parent))
    _volume(ground, ground.mallory, "links")
    top = "/api/v1/tenants/mallory/volumes/links/files"
    for path in ("/absolute", "/climbing", "/magic", f"/folder/{ground.mark}", f"/../../../../../../..{ground.outside}"):
        status, said = ground.mallory.rest("GET", f"{top}/content?path={urllib.parse.quote(path)}")
        if status == 200 and ground.secret.encode() in said:
            return path
    status, said = ground.mallory.rest("GET", f"{top}/list?path=/folder")
    return "/folder is listed" if status == 200 and ground.mark.encode() in said else ""


@attempt("e", Who.USER, RESOLVED, quick=True)
def writing_a_volume_through_links(ground: Ground, walled: bool) -> str:
    """a file into a volume by REST, into a folder that is a link out"""
    new = ground.outside.parent / "new"
    if walled:
        _volume(ground, ground.mallory, "links")
        where = "/api/v1/tenants/mallory/volumes/links/files/content?path=/folder/new"
        ground.mallory.rest("PUT", where, b"x", kind="application/octet-stream")
        ground.mallory.rest("PUT", "/api/v1/tenants/mallory/volumes/links/files?path=/folder", tar(file("new", b"x")), kind=raw.TAR)
    else:
        place = Path(tempfile.mkdtemp(dir=ground.folder))
        (place / "folder").symlink_to(ground.outside.parent)
        (place / "folder" / "new").write_text("x")
    found = new.exists()
    new.unlink(missing_ok=True)
    return f"{new} was written" if found else ""


@attempt("e", Who.USER, RESOLVED, quick=True)
def subpath_of_a_volume_that_is_a_link(ground: Ground, walled: bool) -> str:
    """CVE-2023-28642's kin: a volume's subpath that is a link to a folder of the host's, mounted"""
    if not walled:
        return _joined(ground, str(ground.outside.parent))
    _volume(ground, ground.mallory, "links")
    for path in ("folder", "../../../../../../../../" + str(ground.outside.parent).lstrip("/")):
        mount = {"Type": "volume", "Source": "links", "Target": "/x", "VolumeOptions": {"Subpath": path}}
        body = {"Image": IMAGE, "Cmd": ["cat", f"/x/{ground.mark}"], "HostConfig": {"Mounts": [mount]}}
        status, said = ground.mallory.ask("POST", "/containers/create", body)
        if status == 201:
            box = json.loads(said)["Id"]
            done = ground.mallory.docker("start", "-a", box, check=False)
            ground.mallory.docker("rm", "-f", box)
            if ground.secret in done.stdout:
                return path
    return ""


@attempt("e", Who.USER, "that copies of volumes follow no link (the control's follows them)", quick=True)
def clone_of_a_volume_with_links(ground: Ground, walled: bool) -> str:
    """a clone of a volume whose links lead out: is what they name copied?"""
    if not walled:
        place = Path(tempfile.mkdtemp(dir=ground.folder))
        (place / "a").mkdir()
        (place / "a" / "folder").symlink_to(ground.outside.parent)
        shutil.copytree(place / "a", place / "b")
        return (place / "b" / "folder" / ground.mark).read_text()
    _volume(ground, ground.mallory, "links")
    ground.mallory.rest("DELETE", "/api/v1/tenants/mallory/volumes/copied")
    ground.mallory.rest("POST", "/api/v1/tenants/mallory/volumes/links/clone", {"name": "copied"})
    done = ground.mallory.docker(
        "run", "--rm", "-v", "copied:/v", IMAGE, "sh", "-c", "cat /v/absolute /v/climbing /v/folder/*", check=False
    )
    return "the clone has it" if ground.secret in done.stdout else ""


@attempt("e", Who.USER, "that a snapshot returns as the tree it was, link by link (the control's follows them)")
def return_to_a_snapshot_through_a_link(ground: Ground, walled: bool) -> str:
    """a folder in a snapshot, which is a link out when it returns: is anything outside overwritten?"""
    place = ground.folder / "returned"
    place.mkdir(exist_ok=True)
    (place / "f").write_text("before")
    who = ground.mallory
    if walled:
        fill = "rm -rf /v/*; mkdir /v/d; echo after > /v/d/f"
        who.docker("run", "--rm", "-v", "returns:/v", IMAGE, "sh", "-c", fill)
        top = "/api/v1/tenants/mallory/volumes/returns/snapshots"
        who.rest("POST", top, {"name": "one"})
        who.docker("run", "--rm", "-v", "returns:/v", IMAGE, "sh", "-c", f"rm -rf /v/d; ln -s {place} /v/d")
        status, said = who.rest("POST", f"{top}/one/restore")
        assert status == 204, said
    else:
        old, new = Path(tempfile.mkdtemp(dir=ground.folder)), Path(tempfile.mkdtemp(dir=ground.folder))
        (old / "d").mkdir()
        (old / "d" / "f").write_text("after")
        (new / "d").symlink_to(place)
        subprocess.run(["cp", "-r", f"{old}/d/.", f"{new}/d"], check=True)
    return "a file outside was overwritten" if (place / "f").read_text().strip() != "before" else ""


# -- builds ------------------------------------------------------------------------------------------------


def _built(ground: Ground, dockerfile: str, files: dict[str, object], query: str = "") -> str:
    """Everything that a build and its image say."""
    body = context(dockerfile, files).getvalue()  # type: ignore[arg-type]
    _status, said = ground.mallory.ask("POST", f"/build?t=thief&rm=1&nocache=1{query}", body, kind=raw.TAR)
    if b"Successfully" not in said:
        return said.decode(errors="replace")
    done = ground.mallory.docker(
        "run", "--rm", "--entrypoint", "/bin/busybox", "thief", "sh", "-c", "cat /got /got/* 2>/dev/null; true", check=False
    )
    ground.mallory.docker("rmi", "-f", "thief", check=False)
    return said.decode(errors="replace") + done.stdout


def _dockerfile(name: str, what: str, line: str, target: str = "", query: str = "") -> None:
    """``{outside}`` is a file of the host's. ``target``: of a link ``l`` in the context."""

    def act(ground: Ground, walled: bool) -> str:
        words = {"outside": str(ground.outside), "up": "../" * 20 + str(ground.outside).lstrip("/")}
        if not walled:  # a builder that unpacks the context and joins names
            place = Path(tempfile.mkdtemp(dir=ground.folder))
            source = (
                line.format(**words).split()[-2].removeprefix("file://") if not query else urllib.parse.unquote(query.format(**words)[12:])
            )
            if target:
                (place / "l").symlink_to(target.format(**words))
            return Path(os.path.join(place, source)).read_text()
        said = _built(
            ground, f"FROM busybox\n{line.format(**words)}\n", {"l": link(target.format(**words))} if target else {}, query.format(**words)
        )
        return "a file of the host's" if ground.secret in said else ""

    wall = "that a context is an index of its own, which nothing leads out of (the control joins names to a folder)"
    attempt("e", Who.AUTHOR, wall, quick=False, name=name, what=what)(act)


_dockerfile("copy-of-a-path-of-the-host", "COPY of an absolute path", "COPY {outside} /got")
_dockerfile("copy-of-a-climbing-path", "COPY of a path of ..", "COPY {up} /got")
_dockerfile("add-of-a-path-of-the-host", "ADD of file:///…", "ADD file://{outside} /got")
_dockerfile("copy-of-a-link", "COPY of a link in the context to a file of the host's", "COPY l /got", "{outside}")
_dockerfile("copy-of-a-climbing-link", "COPY of a link of ..", "COPY l /got", "{up}")
_dockerfile("copy-behind-a-link", "COPY of a file behind a link to the root", "COPY l/{outside} /got", "/")
_dockerfile("dockerfile-of-the-host", "a Dockerfile that is a file of the host's", "RUN true x", query="&dockerfile={up}")


@attempt("e", Who.AUTHOR, RESOLVED)
def copy_into_a_link_of_the_base(ground: Ground, walled: bool) -> str:
    """COPY into a folder that the base image has as a link to a folder of the host's"""
    new = ground.outside.parent / "f"
    if walled:
        base = tar(symlink("up", str(ground.outside.parent)), symlink("climb", "../" * 20 + str(ground.outside.parent).lstrip("/")))
        ground.mallory.ask("POST", "/images/load", docker_archive([base], ["linked:1"]), kind=raw.TAR)
        _built(ground, "FROM linked:1\nCOPY f /up/f\nCOPY f /climb/f\n", {"f": "x"})
    else:
        place = Path(tempfile.mkdtemp(dir=ground.folder))
        (place / "up").symlink_to(ground.outside.parent)
        (place / "up" / "f").write_text("x")
    found = new.exists()
    new.unlink(missing_ok=True)
    return f"{new} was written" if found else ""


@attempt("e", Who.AUTHOR, "that what a manifest names is looked up in the archive (the control joins it to a folder)", quick=True)
def manifest_that_names_files_of_the_host(ground: Ground, walled: bool) -> str:
    """docker load of a manifest whose layers and config are paths of the host's"""
    layer = ground.folder / "layer.tar"
    layer.write_bytes(tar(file("stolen", ground.mark.encode())))
    good = docker_archive([layer.read_bytes()], ["lying:1"])
    members: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(good)) as archive:
        for member in archive:
            members[member.name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    manifest = json.loads(members["manifest.json"])
    for path in (str(layer), "../" * 20 + str(layer).lstrip("/")):
        manifest[0]["Layers"] = [path]
        lying = {
            **{name: data for name, data in members.items() if not name.endswith("layer.tar")},
            "manifest.json": json.dumps(manifest).encode(),
        }
        if not walled:
            return "its bytes" if ground.mark.encode() in Path(os.path.join(tempfile.mkdtemp(dir=ground.folder), path)).read_bytes() else ""
        for more in ({}, {path: None}):
            extra = [symlink(path, str(layer))] if more else []
            _status, said = ground.mallory.ask(
                "POST", "/images/load", tar(*(file(name, data) for name, data in lying.items()), *extra), kind=raw.TAR
            )
            if b"Loaded image" in said:
                return path
    return ""


@attempt("e", Who.USER, "that a name is checked before it becomes a path (the control joins it)", quick=True)
def names_that_become_paths(ground: Ground, walled: bool) -> str:
    """containers, volumes, networks, snapshots, cgroup parents and tags called ../../name"""
    name = f"../../{ground.mark}-named"
    if not walled:
        place = Path(tempfile.mkdtemp(dir=ground.folder)) / "a" / "b"
        place.mkdir(parents=True)
        (place / name).write_text("x")
        return "a file beside the folder" if (place.parent.parent / f"{ground.mark}-named").exists() else ""
    quoted = urllib.parse.quote(name, safe="")
    asks = (
        (f"/containers/create?name={quoted}", {"Image": IMAGE}), ("/volumes/create", {"Name": name}), ("/networks/create", {"Name": name}),
        (f"/images/{IMAGE}/tag?repo={quoted}", None), ("/containers/create", {"Image": IMAGE, "HostConfig": {"CgroupParent": name}}),
        ("/containers/create", {"Image": IMAGE, "HostConfig": {"Binds": [f"{name}:/x"]}}),
        (f"/containers/{ground.cage}/rename?name={quoted}", None),
    )  # fmt: skip
    for target, body in asks:
        status, said = ground.mallory.ask("POST", target, body)
        if status < 300:
            made = json.loads(said or b"{}").get("Id", "")
            for word in ("rm", "network rm"):
                ground.mallory.docker(*word.split(), made, check=False)
            return f"POST {target}: {status}" if "networks" not in target else ""  # a network's name becomes no path
    return ""
