"""Volumes on NFS servers: who may have which, and what a server's answer, or silence, does. The server is this machine's own."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import ceilings, remote, snapshots
from engine.engine import Engine
from engine.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Unavailable, Unsupported
from engine.kernel import nfs
from engine.model.image import ImageRecord
from engine.model.volume import VolumeSpec
from engine.runtime.shares import LIMIT_S
from tests.engine.builds.building import TENANT, Bench, bench
from tests.engine.runtime.keeping import until
from tests.engine.volumes.test_volumes import run, spec_of, volume
from tests.support.nfs import SERVER, exported, mounted, silent

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup"), pytest.mark.guest]

HERE = pytest.mark.requires("nfs")


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.fixture(scope="module")
def image(place: Bench) -> ImageRecord:
    return place.build("FROM busybox\nRUN mkdir /data && echo image > /data/own\n").record


@pytest.fixture
def engine(place: Bench) -> Iterator[Engine]:
    """With nothing granted, no volume, and no container that a test which failed left: it would have the server mounted."""
    engine = place.engine
    yield engine
    for spec, _state in engine.list(TENANT):
        engine.remove(TENANT, spec.id, force=True)
    engine.volumes.prune(TENANT, engine.volumes.names(TENANT))
    ceilings.forget(engine.config, TENANT)


@pytest.fixture(scope="module")
def exports() -> Iterator[Path]:
    with exported({"granted": "", "squashed": ",all_squash,anonuid=1234,anongid=1234", "secret": ""}) as place:
        yield place


def shared(name: str, path: Path | str, words: str = "vers=4", server: str = SERVER) -> VolumeSpec:
    return VolumeSpec(tenant=TENANT, name=name, options={"type": "nfs", "o": f"addr={server},{words}", "device": f":{path}"})


def grant(engine: Engine, *exports: str) -> None:
    ceilings.change(engine.config, TENANT, nfs=exports)


def children_of(engine: Engine) -> list[str]:
    pid = engine.keeper.parts()["launcher"]["pid"]
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_nobody_has_one_who_was_not_granted_it(engine: Engine, image: ImageRecord) -> None:
    wanted = shared("data", "/srv/a")
    sentence = (
        r"the NFS export 127.0.0.1:/srv/a is not allowed: root of this host grants exports to a tenant"
        r" with `python3 -m engine --tenant NAME ceiling --nfs SERVER:/PATH`"
    )
    mount = volume("data", "/data", options=wanted.options)
    for act in (lambda: engine.create_volume(wanted), lambda: engine.create(spec_of(image, "true", mount))):
        with pytest.raises(PermissionDenied, match=sentence) as caught:
            act()
        assert caught.value.detail == {"rule": "nfs"}
    grant(engine, f"{SERVER}:/srv/b", f"{SERVER}:/srv/a:ro", "127.0.0.2:/srv/c:port=20049")
    for refused, why in (
        (wanted, "read-only alone"),
        (shared("data", "/srv/ab"), "is not allowed"),
        (shared("data", "/srv/c"), "is not allowed"),
        (shared("data", "/srv/c", server="127.0.0.2"), "port 2049 of .* is not allowed: 127.0.0.2:/srv/c:port=20049 was granted"),
        (shared("data", "/srv/b", "mountaddr=127.0.0.2"), "all of 127.0.0.1, 127.0.0.2 must be one server"),
        (shared("data", "/srv/b", "port=111"), "port 111 of"),
    ):
        with pytest.raises(PermissionDenied, match=why):
            engine.create_volume(refused)
    assert not engine.volumes.names(TENANT)


def test_a_name_is_resolved_when_it_is_granted_and_never_again(engine: Engine) -> None:
    grant(engine, "localhost:/srv/a")
    (export,) = ceilings.read(engine.config, TENANT).exports
    assert export.server == "localhost" and export.address in ("127.0.0.1", "::1")
    for server in ("localhost", export.address):
        share = shared("data", "/srv/a/x", server=server).share
        assert share is not None and remote.granted(ceilings.read(engine.config, TENANT), share) == export
    with pytest.raises(InvalidArgument, match=r"finds no address of 'nowhere.invalid'"):
        grant(engine, "nowhere.invalid:/srv")
    ceilings.change(engine.config, TENANT, no_nfs=("localhost:/srv/a",))
    assert ceilings.read(engine.config, TENANT).exports == ()


def test_a_server_that_is_not_there_or_a_kernel_that_cannot_ask_it(engine: Engine, image: ImageRecord) -> None:
    """Made and started all the same way; the record of a volume from before the kernel was changed is there, too."""
    grant(engine, f"{SERVER}:/srv/a:port=9")
    engine.volumes.create(shared("data", "/srv/a", "vers=4,port=9"))
    spec = spec_of(image, "true", volume("data", "/data"))
    engine.create(spec)
    if nfs.is_here():
        with pytest.raises(Unavailable, match=r"127.0.0.1:/srv/a: the NFS server does not answer: connection refused"):
            engine.start(TENANT, spec.id)
    else:
        for act in (lambda: engine.start(TENANT, spec.id), lambda: engine.create_volume(shared("new", "/srv/a", "port=9"))):
            with pytest.raises(Unsupported, match="this kernel has no nfs: the administrator of this machine loads the module"):
                act()
    state = engine.state(TENANT, spec.id)
    assert not state.has_process and "NFS server" in state.error
    until(lambda: len(children_of(engine)) == 1, what="roots alone")
    ceilings.change(engine.config, TENANT, no_nfs=(f"{SERVER}:/srv/a",))
    with pytest.raises(PermissionDenied, match="is not allowed"):  # taken back
        engine.start(TENANT, spec.id)
    for name, act in (
        ("files", lambda: engine.files.of_volume("stat", TENANT, "data", "/")),
        ("copies", lambda: snapshots.clone(engine, TENANT, "data", "again")),
        ("snapshots", lambda: snapshots.take(engine, TENANT, "data", "one")),
        ("docker cp", lambda: engine.files.get(TENANT, spec.id, "/data/x", shown="x")),
    ):
        with pytest.raises(FailedPrecondition, match="here only in containers that run with it"):
            act()
            pytest.fail(name)
    assert engine.volumes.usage(TENANT) == {"data": 0}
    engine.remove(TENANT, spec.id)


@HERE
def test_files_are_the_servers_and_the_mount_is_gone_with_its_last_user(engine: Engine, image: ImageRecord, exports: Path) -> None:
    grant(engine, f"{SERVER}:{exports}/granted")
    engine.create_volume(shared("data", exports / "granted"))
    first = spec_of(image, "echo one > /data/a && mkdir -p /data/d/e && echo deep > /data/d/e/f; exec sleep 1000", volume("data", "/data"))
    engine.create(first)
    engine.start(TENANT, first.id)
    until((exports / "granted/d/e/f").exists)
    root = engine.tenants.get(TENANT).uid_start
    assert ((exports / "granted/a").stat().st_uid, (exports / "granted/a").read_text()) == (root, "one\n")
    look = "cat /data/a; ls /data; stat -c '%u:%g' /data/a; grep ' /data ' /proc/mounts; chown 5:6 /data/a 2>&1; cat /data/d/e/f"
    seen = run(engine, spec_of(image, look, volume("data", "/data"))).splitlines()
    assert seen[:4] == ["one", "a", "d", "0:0"], "nothing of the image's"
    words = seen[4].split()
    assert words[2] == "nfs4" and {"rw", "nosuid", "nodev", "vers=4.2", "soft"} <= set(words[3].split(","))
    assert seen[5].startswith("chown:") and seen[6] == "deep", "the server lets none but its own root give files away"
    assert run(engine, spec_of(image, "cat /v/f", volume("data", "/v", subpath="d/e"))) == "deep\n"
    launcher = engine.keeper.parts()["launcher"]["pid"]
    kinds = {line.split()[2] for line in Path(f"/proc/{launcher}/mounts").read_text().splitlines()}
    assert not kinds & {"nfs", "nfs4"}, "nobody else has it"
    engine.remove(TENANT, first.id, force=True)
    until(lambda: not mounted(), what="unmounted")


@HERE
def test_versions_squashed_ids_and_what_is_read_only(engine: Engine, image: ImageRecord, exports: Path) -> None:
    grant(engine, f"{SERVER}:{exports}/squashed", f"{SERVER}:{exports}/granted:ro")
    for version, shown in (("4.0", "4.0"), ("4.1", "4.1"), ("3,nolock", "3")):
        name = f"v{shown.replace('.', '')}"
        engine.create_volume(shared(name, exports / "squashed", f"vers={version}"))
        look = f"echo {version} > /s/{name} && cat /s/{name} && stat -c %u /s/{name} && grep -c vers={shown} /proc/mounts"
        assert run(engine, spec_of(image, look, volume(name, "/s"))).splitlines() == [version, "65534", "1"]
        assert (exports / "squashed" / name).stat().st_uid == 1234
    engine.create_volume(shared("still", exports / "granted", "ro"))
    (exports / "granted/x").write_text("x")
    look = "cat /r/x; touch /r/y 2>&1; mount -o remount,rw /r 2>&1; touch /r/y 2>&1"
    seen = run(engine, spec_of(image, look, volume("still", "/r"), cap_add=("SYS_ADMIN",)))
    assert seen.startswith("x") and seen.count("Read-only file system") >= 2 and not (exports / "granted/y").exists()
    for unlike in ("vers=4,rsize=1048576", "vers=4,noexec"):
        engine.create_volume(shared("other", exports / "squashed", unlike))
        assert run(engine, spec_of(image, "ls /s | head -1", volume("other", "/s"))) == "v3\n"
        engine.volumes.remove(TENANT, "other")


@HERE
def test_no_link_on_the_server_leads_out_of_what_was_granted(engine: Engine, image: ImageRecord, exports: Path) -> None:
    grant(engine, f"{SERVER}:{exports}/granted")
    (exports / "secret/key").write_text("secret")
    (exports / "granted/sub").mkdir()
    (exports / "granted/sub/f").write_text("mine\n")
    (exports / "granted/locked").mkdir(mode=0o700)
    (exports / "granted/locked/in").mkdir()
    for name, target in (("out", "../secret"), ("absolute", f"{exports}/secret"), ("in", "sub")):
        (exports / f"granted/{name}").symlink_to(target)

    def started(path: str, **words: str) -> str:
        engine.create_volume(shared("data", exports / "granted" / path))
        try:
            return run(engine, spec_of(image, "cat /v/f", volume("data", "/v", **words)))
        finally:
            engine.volumes.remove(TENANT, "data")

    assert started("sub") == started("in") == started("", subpath="sub") == "mine\n"
    for path in ("out", "absolute"):
        with pytest.raises(PermissionDenied, match=r"leads out of .*granted, which is what was granted"):
            started(path)
    for path, words, why in (
        ("locked/in", {}, "permission denied"),  # the folder is another's on the server
        ("none", {}, "no such file"),
        ("", {"subpath": "out"}, "no such file"),  # ``..`` stays in the volume
    ):
        with pytest.raises(InvalidArgument, match=why):
            started(path, **words)
    grant(engine, f"{SERVER}:{exports}/nothing")
    engine.create_volume(shared("data", exports / "nothing"))
    with pytest.raises(FailedPrecondition, match=r"nothing is not there|nothing is refused by the server"):
        run(engine, spec_of(image, "true", volume("data", "/v")))


@HERE
@pytest.mark.timeout(300)
def test_who_waits_for_a_server_waits_alone(engine: Engine, image: ImageRecord) -> None:
    """It takes the connection, and says nothing."""
    with socket.create_server((SERVER, 0)) as mute, ThreadPoolExecutor(1) as pool:
        port = mute.getsockname()[1]
        grant(engine, f"{SERVER}:/srv:port={port}")
        engine.create_volume(shared("data", "/srv", f"vers=4.2,port={port}"))
        spec = spec_of(image, "true", volume("data", "/data"))
        engine.create(spec)
        began = time.monotonic()
        start = pool.submit(engine.start, TENANT, spec.id)
        until(lambda: len(children_of(engine)) == 2, what="a child that asks")
        while time.monotonic() - began < LIMIT_S / 2:
            before = time.monotonic()
            assert run(engine, spec_of(image, "echo on")) == "on\n"
            engine.volumes.usage(TENANT)
            with engine.locked(spec.id):
                pass
            assert time.monotonic() - before < LIMIT_S / 4
        assert not start.done()
        with pytest.raises(Unavailable, match=f"127.0.0.1:/srv: the NFS server does not answer: nothing came for {LIMIT_S} s"):
            start.result(timeout=LIMIT_S + 30)
        until(lambda: len(children_of(engine)) == 1, what="the child's end")
        engine.remove(TENANT, spec.id)


@HERE
@pytest.mark.timeout(300)
def test_a_container_ends_though_its_server_has_gone(engine: Engine, image: ImageRecord, exports: Path) -> None:
    grant(engine, f"{SERVER}:{exports}/granted")
    engine.create_volume(shared("data", exports / "granted", "vers=4.2,timeo=50,retrans=1"))
    stuck = spec_of(image, "while :; do echo more >> /data/grows; done", volume("data", "/data"))
    engine.create(stuck)
    engine.start(TENANT, stuck.id)
    until((exports / "granted/grows").exists)
    with silent():
        time.sleep(1)
        assert engine.volumes.usage(TENANT) == {"data": 0} and run(engine, spec_of(image, "echo on")) == "on\n"
        engine.kill(TENANT, stuck.id, 9)
        engine.wait(stuck.id, timeout_s=200)  # a page under way is waited for, until the client gives its server up
        engine.settle(stuck.id)
        engine.remove(TENANT, stuck.id)
        assert run(engine, spec_of(image, "echo on")) == "on\n"
    until(lambda: not mounted(), what="unmounted")
