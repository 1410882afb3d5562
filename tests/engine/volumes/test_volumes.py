"""Volumes and granted folders, by an engine of their own: what containers see, and what is left."""

from __future__ import annotations

import os
import secrets
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import ceilings, filling, snapshots
from engine.engine import Engine
from engine.errors import AlreadyExists, EngineError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.model.container import ContainerSpec
from engine.model.image import ImageRecord
from engine.model.volume import MountSpec, VolumeSpec
from engine.runtime.logs import LogReader
from tests.engine.builds.building import TENANT, Bench, bench

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")

CONTENT = """FROM busybox
RUN mkdir -p /data/sub && echo hello > /data/sub/file && ln /data/sub/file /data/again && ln -s sub/file /data/link \\
    && chown -R 7:8 /data/sub && chmod 1770 /data && ln -s /data /alias && ln -s /proc /hostile && ln -s /../../../etc /etc2 && touch /file
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.fixture(scope="module")
def image(place: Bench) -> ImageRecord:
    return place.build(CONTENT).record


def spec_of(image: ImageRecord, command: str, *mounts: MountSpec, **words: Any) -> ContainerSpec:
    number = secrets.token_hex(32)
    words = {"tenant": TENANT, "network_mode": "none", **words}
    return ContainerSpec(id=number, name=f"c{number[:8]}", image_id=image.id, image="x", args=("sh", "-c", command), mounts=mounts, **words)


def volume(source: str, target: str, **words: Any) -> MountSpec:
    return MountSpec(type="volume", source=source, target=target, **words)


def bind(source: str | Path, target: str, **words: Any) -> MountSpec:
    return MountSpec(type="bind", source=str(source), target=target, **words)


def run(engine: Engine, spec: ContainerSpec, *, keep: bool = False, volumes: bool = False) -> str:
    """What it printed. It is removed."""
    engine.create(spec)
    try:
        engine.start(spec.tenant, spec.id)
        engine.wait(spec.id, timeout_s=30)
        engine.settle(spec.id)
        log = engine.config.container(spec.id) / "log"
        return b"".join(LogReader(log, frames=False)).decode()
    finally:
        if not keep:
            engine.remove(spec.tenant, spec.id, force=True, volumes=volumes)


def mounts_of(engine: Engine, table: str = "/proc/mounts") -> list[str]:
    """Below the engine's folders; others of this machine are others' business."""
    return [line for line in Path(table).read_text().splitlines() if str(engine.config.data) in line]


def pruned(engine: Engine, *names: str) -> list[str]:
    return [spec.name for spec in engine.volumes.prune(TENANT, names)[0]]


@pytest.mark.guest
def test_a_volume_outlives_its_containers_and_has_their_ids(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    assert run(engine, spec_of(image, "echo one > /v/a; chown 5:6 /v/a; stat -c %u:%g:%a /v", volume("kept", "/v"))) == "0:0:755\n"
    assert run(engine, spec_of(image, "cat /v/a; stat -c %u:%g /v/a", volume("kept", "/v", read_only=True))) == "one\n5:6\n"
    assert "Read-only" in run(engine, spec_of(image, "touch /v/b 2>&1", volume("kept", "/v", read_only=True)))
    status = os.stat(engine.volumes.folder(TENANT, "kept") / "_data" / "a")
    assert (status.st_uid, status.st_gid) == (5, 6)  # whatever range the tenant has
    assert [spec.name for spec in engine.volumes.list(TENANT) if not spec.anonymous] == ["kept"]
    engine.volumes.remove(TENANT, "kept")
    with pytest.raises(NotFound, match="get kept: no such volume"):
        engine.volumes.get(TENANT, "kept")


def test_set_uid_files_work_in_it_and_devices_do_not(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    options = run(engine, spec_of(image, "grep ' /v ' /proc/mounts", volume("suid", "/v"))).split()[3].split(",")
    assert "nosuid" not in options and "nodev" in options
    engine.volumes.remove(TENANT, "suid")


@pytest.mark.guest
def test_an_empty_one_gets_what_the_image_has_there(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    look = "stat -c '%n %u:%g %a' /data /data/sub /data/sub/file; cat /data/link; stat -c %h /data/again"
    filled = "/data 0:0 1770\n/data/sub 7:8 755\n/data/sub/file 7:8 644\nhello\n2\n"
    assert run(engine, spec_of(image, look, volume("full", "/data"))) == filled
    assert run(engine, spec_of(image, "rm -r /data/*; ls /data", volume("full", "/data"))) == ""
    assert run(engine, spec_of(image, "ls /data", volume("full", "/data"))) == "again\nlink\nsub\n"  # it was empty again, as in moby
    assert run(engine, spec_of(image, "ls /data; stat -c %a /data", volume("bare", "/data", no_copy=True))) == "755\n"
    assert run(engine, spec_of(image, "ls /data", volume("linked", "/alias"))) == "again\nlink\nsub\n"
    used = spec_of(image, "true", volume("used", "/elsewhere"))
    run(engine, used, keep=True)
    (engine.volumes.folder(TENANT, "used") / "_data" / "mine").write_text("x")
    assert run(engine, spec_of(image, "ls /data", volume("used", "/data"))) == "mine\n"
    with pytest.raises(InvalidArgument, match="cannot mount volume over existing file, file exists /file"):
        engine.create(spec_of(image, "true", volume("file", "/file")))
    engine.remove(TENANT, used.id)
    left = pruned(engine, *engine.volumes.names(TENANT))
    assert left == ["bare", "file", "full", "linked", "used"] and not engine.volumes.names(TENANT)


def test_a_fill_that_was_killed_is_finished_or_begun_anew(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    engine.volumes.create(VolumeSpec(tenant=TENANT, name="torn"))
    folder = engine.volumes.folder(TENANT, "torn")
    (folder / "copy").mkdir()
    (folder / "copy" / "half").write_text("ha")
    assert run(engine, spec_of(image, "ls /data", volume("torn", "/data"))) == "again\nlink\nsub\n"
    (folder / "filling").mkdir()
    (folder / "filling" / "rest").write_text("x")
    assert run(engine, spec_of(image, "ls /data", volume("torn", "/data"))) == "again\nlink\nrest\nsub\n"
    (folder / "copy").mkdir()
    (folder / "is-filled").touch()
    filling.recover(engine)
    assert sorted(os.listdir(folder)) == [".filling.lock", "_data", "users", "volume.json"]
    engine.volumes.remove(TENANT, "torn")


def test_a_path_in_it_is_resolved_in_it(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    words = "mkdir -p /v/a/b; echo in > /v/a/b/f; ln -s /a/b /v/abs; ln -s ../../../../a /v/up; ln -s /etc/passwd /v/out"
    run(engine, spec_of(image, words, volume("deep", "/v")))
    for path in ("a/b", "abs", "up/b", "a/../a/b"):
        assert run(engine, spec_of(image, "cat /s/f", volume("deep", "/s", subpath=path))) == "in\n"
    assert run(engine, spec_of(image, "cat /s", volume("deep", "/s", subpath="a/b/f"))) == "in\n"
    for path in ("nothing", "out"):
        with pytest.raises(InvalidArgument, match=f"cannot mount subpath {path}: no such file or directory"):
            run(engine, spec_of(image, "true", volume("deep", "/s", subpath=path)))
    for path in ("../x", "/a", "a/../../x"):
        with pytest.raises(InvalidArgument, match="subpath must be a relative path within the volume"):
            engine.create(spec_of(image, "true", volume("deep", "/s", subpath=path)))
    engine.volumes.remove(TENANT, "deep")


def test_where_it_goes_is_inside_and_deeper_ones_come_later(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    out = run(engine, spec_of(image, "touch /a/b/c/x; ls /a/b/c; ls /a", volume("v2", "/a/b/c"), volume("v1", "/a"), tmpfs={"/a/b": ""}))
    assert out == "x\nb\n"
    assert "x" in run(engine, spec_of(image, "ls /etc2", volume("v2", "/etc2", no_copy=True)))
    with pytest.raises(InvalidArgument, match="/hostile of the image is a symbolic link to /proc"):
        run(engine, spec_of(image, "true", volume("v2", "/hostile", no_copy=True)))
    for target in ("/proc", "/proc/x", "/sys", "/dev", "/", "relative", "/a/../b", "/nul\0"):
        with pytest.raises(InvalidArgument):
            engine.create(spec_of(image, "true", volume("v3", target)))
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /a"):
        engine.create(spec_of(image, "true", volume("v1", "/a"), volume("v2", "/a")))
    assert pruned(engine, "v1", "v2", "v3") == ["v1", "v2"]


def test_in_use_as_long_as_a_container_names_it(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    spec = spec_of(image, "true", volume("busy", "/v"), volume("a" * 64, "/w", anonymous=True), volume("b" * 64, "/x", anonymous=True))
    other = spec_of(image, "true", volume("b" * 64, "/x", anonymous=True))
    for each in (spec, other):
        engine.create(each)
    with pytest.raises(FailedPrecondition) as refused:
        engine.volumes.remove(TENANT, "busy")
    assert str(refused.value) == f"remove busy: volume is in use - [{spec.id}]"
    assert pruned(engine, "busy", "a" * 64, "b" * 64) == []
    assert engine.remove(TENANT, spec.id, volumes=True) == ["a" * 64]
    assert engine.volumes.names(TENANT) == ["b" * 64, "busy"]
    assert engine.remove(TENANT, other.id) == []
    assert pruned(engine, "busy", "b" * 64, "nothing") == ["busy", "b" * 64]


def test_another_tenants_is_none(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    engine.volumes.create(VolumeSpec(tenant=TENANT, name="mine"))
    for act in (engine.volumes.get, engine.volumes.remove):
        with pytest.raises(NotFound, match="get mine: no such volume"):
            act("other", "mine")
    assert engine.volumes.list("other") == [] and engine.volumes.prune("other", ["mine"]) == ([], 0)
    for name in ("../mine", ".lock", "a/b", "", "-x", "x" * 300):
        with pytest.raises(EngineError):
            engine.volumes.create(VolumeSpec(tenant=TENANT, name=name))
        with pytest.raises(NotFound):
            engine.volumes.remove(TENANT, name)
    engine.volumes.remove(TENANT, "mine")


def test_what_a_kill_leaves_is_understood(place: Bench, image: ImageRecord) -> None:
    """Between the volume and the container's record; in the midst of making one."""
    engine = place.engine
    lost = spec_of(image, "true", volume("lost", "/v"))
    engine.volumes.take(lost)
    with pytest.raises(FailedPrecondition):
        engine.volumes.remove(TENANT, "lost")  # a create that is under way, for all anybody knows
    mark = engine.volumes.folder(TENANT, "lost") / "users" / lost.id
    os.utime(mark, (1, 1))
    (engine.config.volumes / TENANT / ".new.abcdef").mkdir()
    engine.volumes.recover()
    assert not mark.exists() and engine.volumes.names(TENANT) == ["lost"]
    engine.create(lost)  # the sweeper's second try
    assert engine.volumes.users(TENANT, "lost") == [lost.id]
    engine.remove(TENANT, lost.id)
    engine.volumes.remove(TENANT, "lost")


def test_a_start_that_fails_leaves_no_mount(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    launcher = engine.keeper.parts()["launcher"]["pid"]
    before = mounts_of(engine, f"/proc/{launcher}/mounts")
    with pytest.raises(EngineError):
        run(engine, spec_of(image, "true", volume("gone", "/v"), cwd="/file"))
    assert mounts_of(engine, f"/proc/{launcher}/mounts") == before
    assert mounts_of(engine) == []
    engine.volumes.remove(TENANT, "gone")


@pytest.mark.guest
def test_folders_of_the_host_by_grant_alone(place: Bench, image: ImageRecord, open_folder: Path) -> None:
    engine, granted = place.engine, open_folder / "granted"
    granted.mkdir()
    (granted / "readable").write_text("host\n")
    (granted / "readable").chmod(0o644)
    (granted / "way-out").symlink_to("/etc")
    (granted / "within").symlink_to("deep/er")
    with pytest.raises(PermissionDenied, match="root of this host grants folders"):
        engine.create(spec_of(image, "true", bind(granted, "/h")))
    ceilings.change(engine.config, TENANT, bind=(str(granted),))
    start = engine.tenants.get(TENANT).uid_start
    assert run(engine, spec_of(image, "cat /h/readable; touch /h/x 2>&1; stat -c %u /h", bind(granted, "/h"))).startswith(
        "host\ntouch: /h/x: Perm"
    )
    for source in (open_folder, granted / ".." / "other", f"{granted}x", "/"):
        with pytest.raises(PermissionDenied):
            engine.create(spec_of(image, "true", bind(source, "/h")))
    with pytest.raises(InvalidArgument, match='for type "bind": bind source path does not exist: '):
        engine.create(spec_of(image, "true", bind(granted / "deep" / "er", "/h")))
    run(engine, spec_of(image, "touch /h/made", bind(granted / "deep" / "er", "/h", create=True)))
    assert os.stat(granted / "deep" / "er" / "made").st_uid == start
    assert run(engine, spec_of(image, "ls /h", bind(granted / "within", "/h"))) == "made\n"
    assert run(engine, spec_of(image, "cat /f", bind(granted / "readable", "/f"))) == "host\n"
    with pytest.raises(InvalidArgument, match="leads out of"):
        engine.create(spec_of(image, "true", bind(granted / "way-out" / "x", "/h")))
    with pytest.raises(PermissionDenied, match="propagation"):
        engine.create(spec_of(image, "true", bind(granted, "/h", propagation="rshared")))
    assert run(engine, spec_of(image, "ls /h", bind(granted / "deep", "/h", propagation="rslave"))) == "er\n"
    ceilings.change(engine.config, TENANT, bind=(f"{granted}:ro,uid=1234",))
    with pytest.raises(PermissionDenied, match="read-only alone"):
        engine.create(spec_of(image, "true", bind(granted, "/h")))
    os.chown(granted / "readable", 1234, 1234)
    assert run(engine, spec_of(image, "stat -c %u:%g /h/readable", bind(granted, "/h", read_only=True))) == "0:0\n"
    (granted / "deep" / "sub").mkdir()
    with pytest.raises(PermissionDenied, match="bind mounts of /etc are not allowed"):
        engine.create_volume(VolumeSpec(tenant=TENANT, name="etc", options={"type": "none", "o": "bind", "device": "/etc"}))
    ceilings.change(engine.config, TENANT, bind=(str(granted),))
    named = engine.create_volume(
        VolumeSpec(tenant=TENANT, name="named", options={"type": "none", "o": "bind", "device": f"{granted}/deep"})
    )
    assert named.folder == f"{granted}/deep"
    assert run(engine, spec_of(image, "ls /data", volume("named", "/data"))) == "er\nsub\n"  # nothing is filled in
    run(engine, spec_of(image, "touch /s/in", volume("named", "/s", subpath="er")))
    assert (granted / "deep" / "er" / "in").exists()
    with pytest.raises(FailedPrecondition, match="are the host's"):
        snapshots.clone(engine, TENANT, "named", "other")
    with pytest.raises(PermissionDenied):
        engine.create(spec_of(image, "true", volume("x1", "/x", options={"type": "none", "o": "bind", "device": "/root"})))
    assert pruned(engine, "named", "x1") == ["named"] and (granted / "deep" / "er" / "in").exists()
    ceilings.change(engine.config, TENANT, unbind=(str(granted),))
    with pytest.raises(PermissionDenied):
        engine.create(spec_of(image, "true", bind(granted, "/h", read_only=True)))
    for words in ("relative", "/x:uid=0", "/x:rx", "/x/../y", "/x/"):
        with pytest.raises(InvalidArgument):
            ceilings.change(engine.config, TENANT, bind=(words,))


def test_a_tenants_files_are_nobodys_on_the_host(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    run(engine, spec_of(image, "touch /v/x", volume("closed", "/v")))
    assert stat.S_IMODE(os.stat(engine.config.volumes / TENANT).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(engine.volumes.folder(TENANT, "closed")).st_mode) == 0o700
    engine.volumes.remove(TENANT, "closed")


@pytest.mark.requires("loop")
@pytest.mark.guest
def test_a_size_holds(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    made = engine.volumes.create(VolumeSpec(tenant=TENANT, name="small", options={"size": "10m"}))
    assert (made.size_bytes, made.limit) == (10 << 20, "disk")
    fill = "dd if=/dev/zero of=/v/f bs=1M count=11 2>&1 | tail -3; wc -c /v/f; df -m /v | tail -1; stat -c %u:%g /v/f"
    lines = run(engine, spec_of(image, fill, volume("small", "/v"))).split("\n")
    written = int(next(line for line in lines if line.endswith("/v/f")).split()[0])
    assert any("No space left" in line for line in lines) and 10_000_000 <= written <= 10 << 20
    assert engine.volumes.usage(TENANT)["small"] > 10_000_000
    assert "FULL" in run(engine, spec_of(image, "echo x > /v/g || echo FULL", volume("small", "/v")))
    inside = spec_of(image, "touch /v/ready; while ! echo y > /v/h; do sleep 0.1; done; cat /v/h", volume("small", "/v"))
    assert engine.volumes.resize(TENANT, "small", "20m").size_bytes == 20 << 20
    assert run(engine, inside) == "y\n"
    run(engine, spec_of(image, "mkdir /v/d; echo s > /v/d/x", volume("small", "/v")))
    assert run(engine, spec_of(image, "cat /s/x", volume("small", "/s", subpath="d", read_only=True))) == "s\n"
    assert mounts_of(engine) == []
    engine.volumes.create(VolumeSpec(tenant=TENANT, name="filled", options={"size": "5m"}))
    assert run(engine, spec_of(image, "cat /data/sub/file; stat -c %u:%g /data/sub", volume("filled", "/data"))) == "hello\n7:8\n"
    engine.volumes.create(VolumeSpec(tenant=TENANT, name="tight", options={"size": "1m"}))
    with pytest.raises(FailedPrecondition, match="there is no room for what the image has in /bin"):
        engine.create(spec_of(image, "true", volume("tight", "/bin")))
    assert pruned(engine, "small", "filled", "tight") == ["small", "filled", "tight"]
    for size in ("", "x", "-1", "0", "1k", "99999999999p"):
        with pytest.raises(InvalidArgument):
            engine.volumes.create(VolumeSpec(tenant=TENANT, name="wrong", options={"size": size}))


def test_clones_and_snapshots_and_other_names(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    run(engine, spec_of(image, "true", volume("first", "/data")))
    words = "echo a > /v/f; chown 3:4 /v/f; ln -s /etc /v/lnk; mkfifo /v/fifo; chmod 700 /v"
    run(engine, spec_of(image, words, volume("first", "/v")))
    clone = snapshots.clone(engine, TENANT, "first", "second")
    assert clone.name == "second" and clone.created_ns > engine.volumes.get(TENANT, "first").created_ns
    look = "cat /v/f; stat -c %u:%g /v/f; readlink /v/lnk; test -p /v/fifo; stat -c %a /v"
    assert run(engine, spec_of(image, look, volume("second", "/v"))) == "a\n3:4\n/etc\n700\n"
    with pytest.raises(AlreadyExists):
        snapshots.clone(engine, TENANT, "first", "second")
    snapshots.take(engine, TENANT, "first", "before")
    run(engine, spec_of(image, "echo b > /v/f; rm /v/lnk", volume("first", "/v")))
    running = spec_of(image, "sleep 100", volume("first", "/v"))
    engine.create(running)
    engine.start(TENANT, running.id)
    with pytest.raises(FailedPrecondition, match="is in use by the running container"):
        snapshots.restore(engine, TENANT, "first", "before")
    engine.remove(TENANT, running.id, force=True)
    snapshots.restore(engine, TENANT, "first", "before")
    assert run(engine, spec_of(image, "cat /v/f; readlink /v/lnk", volume("first", "/v"))) == "a\n/etc\n"
    assert list(snapshots.of(engine, TENANT, "first")) == ["before"]
    for act in (snapshots.restore, snapshots.remove):
        with pytest.raises(NotFound):
            act(engine, TENANT, "first", "never")
    with pytest.raises(InvalidArgument):
        snapshots.take(engine, TENANT, "first", "../x")
    snapshots.remove(engine, TENANT, "first", "before")
    assert snapshots.of(engine, TENANT, "first") == {}
    assert engine.volumes.rename(TENANT, "first", "third").name == "third"
    assert [spec.name for spec in engine.volumes.list(TENANT)] == ["second", "third"] and engine.volumes.get(
        TENANT, "third"
    ).name == "third"
    with pytest.raises(AlreadyExists):
        engine.volumes.rename(TENANT, "third", "second")
    user = spec_of(image, "true", volume("third", "/v"))
    engine.create(user)
    with pytest.raises(FailedPrecondition, match="rename third: volume is in use"):
        engine.volumes.rename(TENANT, "third", "fourth")
    engine.remove(TENANT, user.id)
    assert pruned(engine, "second", "third") == ["second", "third"]


@pytest.mark.requires("loop")
def test_clones_and_snapshots_of_one_with_a_size(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    engine.volumes.create(VolumeSpec(tenant=TENANT, name="sized", options={"size": "4m"}))
    run(engine, spec_of(image, "dd if=/dev/urandom of=/v/f bs=1M count=1 2>/dev/null", volume("sized", "/v")))
    snapshots.take(engine, TENANT, "sized", "one")
    assert snapshots.clone(engine, TENANT, "sized", "twin").limit == "disk"
    run(engine, spec_of(image, "rm /v/f", volume("sized", "/v")))
    snapshots.restore(engine, TENANT, "sized", "one")
    assert run(engine, spec_of(image, "cmp /v/f /w/f && echo same", volume("sized", "/v"), volume("twin", "/w"))) == "same\n"
    run(engine, spec_of(image, "dd if=/dev/zero of=/v/g bs=1M count=2 2>/dev/null", volume("sized", "/v")))
    snapshots.take(engine, TENANT, "sized", "two")
    with pytest.raises(FailedPrecondition, match="room"):
        snapshots.restore(engine, TENANT, "sized", "two")
    assert run(engine, spec_of(image, "ls /v", volume("sized", "/v"))) == "f\ng\n"
    assert pruned(engine, "sized", "twin") == ["sized", "twin"]


def test_another_image_to_be_read(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    other = place.build("FROM busybox\nRUN mkdir /d && echo there > /d/f && chown 3 /d/f\n").record

    def mounted(**words: str) -> MountSpec:
        return MountSpec(type="image", source=other.id, target="/i", read_only=True, **words)  # type: ignore[arg-type]

    look = "cat /i/d/f; stat -c %u /i/d/f; touch /i/x 2>&1; grep ' /i ' /proc/mounts | grep -c lowerdir=layers"
    assert run(engine, spec_of(image, look, mounted())) == "there\n3\ntouch: /i/x: Read-only file system\n0\n"
    assert run(engine, spec_of(image, "ls /i; touch /i/x 2>&1", mounted(subpath="d"))) == "f\ntouch: /i/x: Read-only file system\n"
    with pytest.raises(InvalidArgument, match="cannot mount subpath nothing"):
        run(engine, spec_of(image, "true", mounted(subpath="nothing")))
    user = spec_of(image, "true", mounted())
    engine.create(user)
    with pytest.raises(FailedPrecondition):
        engine.remove_image(TENANT, other.id)
    engine.remove(TENANT, user.id)
    with pytest.raises(NotFound):
        engine.create(spec_of(image, "true", MountSpec(type="image", source="sha256:" + "ab" * 32, target="/i", read_only=True)))


@pytest.mark.guest
def test_a_volume_in_memory_is_there_while_somebody_runs_with_it(place: Bench, image: ImageRecord) -> None:
    engine = place.engine
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=2m,uid=5,mode=0750,noexec"}
    engine.create_volume(VolumeSpec(tenant=TENANT, name="quick", options=options))
    first = spec_of(image, "echo one > /data/a; exec sleep 1000", volume("quick", "/data"))
    engine.create(first)
    engine.start(TENANT, first.id)
    look = "until cat /data/a; do :; done; stat -c '%u:%a' /data; grep ' /data ' /proc/mounts; df -k /data | tail -1; ls /data"
    seen = run(engine, spec_of(image, look, volume("quick", "/data"))).splitlines()
    assert seen[:2] == ["one", "5:750"] and {"nodev", "noexec"} <= set(seen[2].split()[3].split(",")) and seen[3].split()[1] == "2048"
    assert seen[4:] == ["a"], "nothing of the image's"
    full = spec_of(image, "head -c 3000000 /dev/zero 2>&- > /data/big; stat -c %s /data/big", volume("quick", "/data"))
    assert 1 << 20 < int(run(engine, full)) <= 2 << 20
    os.kill(engine.keeper.parts()["launcher"]["pid"], signal.SIGKILL)  # what it mounted is the keeper's
    assert run(engine, spec_of(image, "rm /data/big; cat /data/a", volume("quick", "/data"))) == "one\n"
    assert os.listdir(engine.volumes.folder(TENANT, "quick") / "_data") == [] == mounts_of(engine), "nobody else sees it"
    for act in (lambda: snapshots.take(engine, TENANT, "quick", "s"), lambda: engine.files.of_volume("stat", TENANT, "quick", "/")):
        with pytest.raises(FailedPrecondition, match="in memory"):
            act()
    engine.remove(TENANT, first.id, force=True)
    assert not [line for line in mounts_of(engine, f"/proc/{engine.keeper.parts()['launcher']['pid']}/mounts") if "quick" in line]
    assert run(engine, spec_of(image, "ls /data", volume("quick", "/data"))) == "", "the next one begins anew"
    engine.volumes.remove(TENANT, "quick")
    for words in ("size=2x", "uid=70000", "mode=9", "context=x"):
        with pytest.raises(InvalidArgument, match=f"invalid option of a tmpfs: '{words}'"):
            engine.create_volume(VolumeSpec(tenant=TENANT, name="bad", options={**options, "o": words}))
