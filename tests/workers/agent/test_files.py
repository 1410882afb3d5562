"""Copying in and out, changes, export, commit and diff by the agent, with real containers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from engine import errors
from tests.workers.agent.conftest import TENANT, Host

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "cgroup", "userns")]

Contents = dict[str, tarfile.TarInfo]


async def get(host: Host, container_id: str, path: str, **words: Any) -> tuple[dict[str, Any], bytes]:
    """The stat and the archive."""
    async with host.stream("archive_get", container_id, path=path, shown="c", **words) as (ok, reader, _writer):
        return ok["stat"], await reader.read()


async def put(host: Host, container_id: str, path: str, archive: bytes, **words: Any) -> None:
    async with host.stream("archive_put", container_id, path=path, shown="c", **words) as (_ok, reader, writer):
        writer.write(archive)
        writer.write_eof()
        answer = json.loads(await reader.read())
        if "error" in answer:
            raise errors.from_json(answer["error"])
        assert answer == {"done": {}}


async def ask(host: Host, op: str, container_id: str = "", **words: Any) -> dict[str, Any]:
    """The ok line."""
    async with host.stream(op, container_id, **words) as (ok, _reader, _writer):
        return ok


async def done(host: Host, op: str, container_id: str = "", **words: Any) -> tuple[Any, bytes]:
    """What it came to, and what follows."""
    async with host.stream(op, container_id, **words) as (_ok, reader, _writer):
        answer = json.loads(await reader.readline())
        if "error" in answer:
            raise errors.from_json(answer["error"])
        return answer["done"], await reader.read()


async def export(host: Host, container_id: str) -> bytes:
    async with host.stream("export", container_id) as (_ok, reader, _writer):
        return await reader.read()


async def changes(host: Host, container_id: str) -> dict[str, str]:
    """{path: A, C or D}, as ``docker diff`` prints."""
    _done, rest = await done(host, "changes", container_id)
    return {change["Path"]: "CAD"[change["Kind"]] for change in json.loads(rest) or ()}


def archive(*entries: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for add in entries:
            add(tar)
    return buffer.getvalue()


def entry(name: str, data: bytes = b"", **words: Any) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in words.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data))

    return add


def members(data: bytes) -> Contents:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def output(host: Host, container_id: str) -> str:
    host.engine.wait(container_id, timeout_s=60)
    return (host.config.container(container_id) / "log" / "1.data").read_text()


@pytest.mark.parametrize("running", [True, False], ids=["running", "created"])
async def test_what_goes_in_comes_out(host: Host, running: bool) -> None:
    one = host.create("sleep", "1000")
    if running:
        host.start(one)
    sent = archive(
        entry("d", type=tarfile.DIRTYPE, mode=0o2750, uid=7, gid=8, mtime=1000),
        entry("d/file", b"x" * 300_000, mode=0o4755, uid=1000, gid=1001, mtime=2000),
        entry("d/link", type=tarfile.SYMTYPE, linkname="file"),
        entry("d/hard", type=tarfile.LNKTYPE, linkname="d/file"),
        entry("d/pipe", type=tarfile.FIFOTYPE),
        entry("d/.wh.name", b"no whiteout"),
        entry("d/" + "n" * 120 + "/ü", b"long"),
    )
    await put(host, one, "/tmp", sent)
    said, got = await get(host, one, "/tmp/d")
    found = members(got)
    assert list(found) == ["d", "d/.wh.name", "d/file", "d/hard", "d/link", "d/" + "n" * 120, "d/" + "n" * 120 + "/ü", "d/pipe"]
    assert (found["d"].mode, found["d"].uid, found["d"].gid, found["d"].mtime) == (0o2750, 7, 8, 1000)
    assert (found["d/file"].mode, found["d/file"].uid, found["d/file"].gid, found["d/file"].mtime) == (0o4755, 1000, 1001, 2000)
    assert found["d/link"].linkname == "file"
    assert (found["d/hard"].islnk(), found["d/hard"].linkname) == (True, "d/file")
    assert content(got, "d/file") == b"x" * 300_000
    assert said["name"] == "d"
    assert said["mode"] == 1 << 31 | 1 << 22 | 0o750
    assert said["mtime"] == "1970-01-01T00:16:40Z"
    assert (await changes(host, one))["/tmp/d/file"] == "A"


@pytest.mark.requires("loop")
async def test_a_layer_with_a_size_is_as_any_other(host: Host) -> None:
    """Of this machine a file system in a file, or a project quota."""
    one = host.create("sh", "-c", "echo inside > /inside; rm /etc/group; chown 7:8 /given", layer_size_bytes=4 << 20)
    await put(host, one, "/", archive(entry("given", b"given")))
    with pytest.raises(errors.EngineError, match=r"space|quota"):
        await put(host, one, "/", archive(entry("large", b"x" * (5 << 20))))
    host.start(one)
    host.engine.wait(one, timeout_s=60)
    found = await changes(host, one)
    assert (found["/given"], found["/inside"], found["/etc/group"]) == ("A", "A", "D")
    assert content((await get(host, one, "/inside"))[1], "inside") == b"inside\n"
    exported = members(await export(host, one))
    assert "etc/group" not in exported and (exported["given"].uid, exported["given"].gid) == (7, 8)
    image = (await done(host, "commit", one, ref="sized:1", container_config={}))[0]["image"]["record"]["id"]
    assert (await ask(host, "size", one))["bytes"] <= 5 << 20
    host.engine.remove(TENANT, one)
    two = host.create("sh", "-c", "stat -c %u:%g /given; ls /etc/group")
    host.engine.remove(TENANT, two)
    assert host.engine.images.get(image).size_bytes


async def test_the_forms_of_a_path_name_the_entries(host: Host) -> None:
    one = host.create("true")
    await put(host, one, "/", archive(entry("etc/motd", b"hello")))
    assert {"etc", "etc/motd"} < set(members((await get(host, one, "/etc"))[1]))
    assert {".", "./motd"} < set(members((await get(host, one, "/etc/."))[1]))
    assert list(members((await get(host, one, "etc/motd"))[1])) == ["motd"]
    assert list(members((await get(host, one, "/etc/../etc/motd"))[1])) == ["motd"]
    with pytest.raises(errors.NotFound, match="Could not find the file /nothing in container c"):
        await get(host, one, "/nothing")
    with pytest.raises(errors.InvalidArgument, match="not a directory"):
        await ask(host, "archive_stat", one, path="/etc/motd/", shown="c")


async def test_a_link_says_where_it_leads_inside(host: Host) -> None:
    one = host.create("true")
    await put(host, one, "/", archive(entry("tmp/out", type=tarfile.SYMTYPE, linkname="/etc/../../../root/x")))
    said = (await ask(host, "archive_stat", one, path="/tmp/out", shown="c"))["stat"]
    assert (said["name"], said["linkTarget"], said["mode"] >> 27 & 1) == ("out", "/root/x", 1)
    assert members((await get(host, one, "/tmp/out"))[1])["out"].issym()


async def test_a_running_container_shows_its_mounts_but_not_what_the_kernel_makes_up(host: Host) -> None:
    one = host.run("sh", "-c", "echo inside >/scratch/file; echo y >/ready; sleep 1000", tmpfs={"/scratch": ""})
    await wait_for(host, one, "/ready")
    assert content((await get(host, one, "/scratch"))[1], "scratch/file") == b"inside\n"
    await put(host, one, "/scratch", archive(entry("more", b"in tmpfs")))
    assert content((await get(host, one, "/scratch/more"))[1], "more") == b"in tmpfs"
    found = members((await get(host, one, "/"))[1])
    assert not [name for name in found if name.startswith(("/proc/", "/sys/", "/dev/", "proc/", "sys/", "dev/"))]
    with pytest.raises(errors.NotFound):
        await get(host, one, "/proc/1/environ")
    assert not [name for name in members(await export(host, one)) if name.startswith("scratch/")]
    assert "ready" in members(await export(host, one))


async def wait_for(host: Host, container_id: str, path: str) -> None:
    import asyncio

    async with asyncio.timeout(60):
        while True:
            try:
                await ask(host, "archive_stat", container_id, path=path, shown="c")
                return
            except errors.NotFound:
                await asyncio.sleep(0.02)


async def test_changes_are_those_of_the_container_alone(host: Host) -> None:
    one = host.run(
        "sh", "-c", "rm /bin/true; mkdir -p /a/b; echo >/a/b/c; chmod 700 /home; rm -rf /var/www; mkdir /var/www; touch /var/www/x"
    )
    host.engine.wait(one, timeout_s=60)
    assert await changes(host, one) == {
        "/a": "A", "/a/b": "A", "/a/b/c": "A", "/bin": "C", "/bin/true": "D", "/home": "C", "/var": "C", "/var/www": "C", "/var/www/x": "A",
    }  # fmt: skip
    assert await changes(host, host.create("true")) == {}


async def test_a_commit_is_the_container_as_an_image(host: Host) -> None:
    one = host.run("sh", "-c", "rm /bin/true; echo new >/root/file; rm -rf /var/www; mkdir /var/www; touch /var/www/x; sleep 1000")
    await wait_for(host, one, "/var/www/x")
    config = {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Image": "busybox"}
    words = {"container_config": config, "changes": ['CMD ["cat", "/root/file"]', "ENV A=b"], "comment": "why", "author": "who"}
    image_id = (await done(host, "commit", one, ref="mine:1", pause=True, **words))[0]["image"]["record"]["id"]
    record = host.engine.images.resolve(TENANT, "mine:1")
    assert record.id == image_id
    assert record.config["config"]["Cmd"] == ["cat", "/root/file"]
    assert record.config["config"]["Env"] == ["PATH=/bin", "A=b"]
    assert (record.config["author"], record.config["comment"], record.config["container"]) == ("who", "why", one)
    assert len(record.chain_ids) == len(host.engine.images.get(host.image_id).chain_ids) + 1
    sides = {"old": {"kind": "container", "id": one}, "new": {"kind": "image", "id": image_id}}
    assert (await done(host, "diff", **sides))[0] == {"count": 0}
    again = (await done(host, "commit", one, ref="mine:1", pause=False, **words))[0]["image"]["record"]["id"]
    assert host.engine.images.get(again).chain_ids == record.chain_ids
    for each in (again, image_id):
        host.engine.remove_image(TENANT, each)
    assert not (host.config.layers / record.chain_ids[-1]).exists()


async def test_two_trees_differ_by_files_and_by_lines(host: Host) -> None:
    one, two = host.create("true"), host.create("true")
    await put(host, one, "/", archive(entry("etc/f", b"a\nb\nc\n"), entry("old/x", b"1")))
    await put(host, two, "/", archive(entry("etc/f", b"a\nB\nc\n", mode=0o600), entry("bin0", b"\0")))
    sides = {"old": {"kind": "container", "id": one}, "new": {"kind": "container", "id": two}}
    found = {line["path"]: line for line in map(json.loads, (await done(host, "diff", **sides))[1].splitlines())}
    assert {path: line["kind"] for path, line in found.items()} == {"/bin0": "A", "/etc": "M", "/etc/f": "M", "/old": "D", "/old/x": "D"}
    assert found["/etc/f"]["what"] == ["mode"]
    assert (found["/etc/f"]["before"]["mode"], found["/etc/f"]["after"]["mode"]) == (0o644, 0o600)
    text, _rest = await done(host, "diff_text", path="/etc/f", **sides)
    assert text["diff"].splitlines() == ["--- a/etc/f", "+++ b/etc/f", "@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"]
    assert (await done(host, "diff_text", path="/bin0", **sides))[0]["binary"]
    with pytest.raises(errors.NotFound):
        await done(host, "diff_text", path="/none", **sides)


async def test_another_tenants_files_are_nobodys(host: Host) -> None:
    host.engine.ensure_tenant("other")
    one = host.create("true")
    side = {"kind": "container", "id": one}
    for op, words in (("archive_stat", {"path": "/"}), ("changes", {}), ("export", {}), ("commit", {}), ("archive_put", {"path": "/"})):
        with pytest.raises(errors.NotFound):
            async with host.stream(op, one, tenant="other", **words):
                pass
    with pytest.raises(errors.NotFound):
        async with host.stream("diff", tenant="other", old=side, new=side):
            pass
    host.engine.remove_tenant("other")
