"""What a request says of volumes and folders, in all of Docker's ways, and moby's sentences to what is wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controlpanel.containers import mounts
from engine.errors import EngineError, InvalidArgument, Unsupported
from engine.model.volume import ANONYMOUS_LABEL, MountSpec, check_mounts

ID = "0123456789ab" + "c" * 52


def read(
    binds: list[str] | None = None, *, given: list[dict[str, Any]] | None = None, volumes: Any = None, **host: Any
) -> tuple[MountSpec, ...]:
    donors = {
        "web": (MountSpec(type="volume", source="db", target="/db"), MountSpec(type="bind", source="/srv", target="/s", read_only=True))
    }
    asked = {"Binds": binds, "Mounts": given, **host}
    return mounts.read(ID, {"Volumes": volumes}, asked, {"/tmp": ""}, donors, {"busybox": "sha256:" + "ab" * 32})


def one(kind: str = "volume", **members: Any) -> list[dict[str, Any]]:
    return [{"Type": kind, "Target": "/t", **members}]


def test_the_short_form() -> None:
    named, folder = read(["data:/x", "/srv/./a:/y/../z:ro,rslave,Z"])
    assert (named.type, named.source, named.target, named.mode, named.read_only) == ("volume", "data", "/x", "z", False)
    assert (folder.type, folder.source, folder.target) == ("bind", "/srv/a", "/z")
    assert (folder.read_only, folder.propagation, folder.create, folder.mode) == (True, "rslave", True, "ro,rslave,Z")
    assert read(["data:/x:nocopy"])[0].no_copy and not named.no_copy


def test_the_long_form() -> None:
    (found,) = read(
        given=one(Source="data", ReadOnly=True, VolumeOptions={"NoCopy": True, "Subpath": "a/b", "Labels": {"k": "v"}, "DriverConfig": {}})
    )
    assert (found.source, found.read_only, found.no_copy, found.subpath, found.labels) == ("data", True, True, "a/b", {"k": "v"})
    (found,) = read(given=one("bind", Source="/srv", BindOptions={"Propagation": "rprivate", "NonRecursive": True}))
    assert (found.source, found.recursive, found.create) == ("/srv", False, False)
    assert read(given=one("tmpfs")) == ()


def test_an_image() -> None:
    (found,) = read(given=one("image", Source="busybox", ImageOptions={"Subpath": "etc"}))
    assert (found.source, found.read_only, found.subpath) == ("sha256:" + "ab" * 32, True, "etc")
    (shown,) = mounts.points([found])
    assert (shown["Type"], shown["Name"], shown["RW"], shown["Propagation"]) == ("image", "busybox", False, "rprivate")


def test_what_has_no_name_gets_one_and_the_same_for_the_same() -> None:
    first, second = read(given=one(), volumes={"/v": {}, "/t": {}, "/tmp": {}})
    assert (first.target, second.target) == ("/t", "/v")  # the image's stands back behind what is asked, and behind memory
    assert first.anonymous and len(first.source) == 64 and first.labels == {ANONYMOUS_LABEL: ""}
    assert read(volumes={"/v": {}})[0].source == second.source != first.source


def test_of_another_container() -> None:
    db, srv = read(VolumesFrom=["web"])
    assert (db.source, db.read_only, db.no_copy, srv.read_only) == ("db", False, True, True)
    assert all(mount.read_only for mount in read(VolumesFrom=["web:ro"]))
    assert [mount.source for mount in read(["mine:/db"], VolumesFrom=["web"])] == ["mine", "/srv"]


def test_how_inspect_lists_them() -> None:
    shown = mounts.points(read(["data:/x", "/srv:/y:ro"], volumes={"/v": {}}))
    assert [(point["Type"], point.get("Name"), point["Source"], point["Mode"], point["RW"], point["Propagation"]) for point in shown] == [
        ("volume", "data", "", "z", True, ""),
        ("bind", None, "/srv", "ro", False, "rprivate"),
        ("volume", read(volumes={"/v": {}})[0].source, "", "", True, ""),
    ]


REFUSED: list[tuple[dict[str, Any], type[EngineError], str]] = [
    ({"binds": [""]}, InvalidArgument, "invalid volume specification: ''"),
    ({"binds": ["a:b:c:d"]}, InvalidArgument, "invalid volume specification: 'a:b:c:d'"),
    ({"binds": ["/x:ro"]}, InvalidArgument, "invalid volume specification: '/x:ro'"),
    ({"binds": ["data:/x:foo"]}, InvalidArgument, "invalid mode: foo"),
    ({"binds": ["data:/x:ro,rw"]}, InvalidArgument, "invalid mode: ro,rw"),
    ({"binds": ["data:/x:rslave"]}, InvalidArgument, "field BindOptions must not be specified"),
    ({"binds": ["data:/"]}, InvalidArgument, "invalid specification: destination can't be '/'"),
    (
        {"binds": ["data:x"]},
        InvalidArgument,
        "'data:x': invalid mount config for type \"volume\": invalid mount path: 'x'",
    ),
    ({"binds": ["a b:/x"]}, InvalidArgument, 'create a b: "a b" includes invalid characters for a local volume name'),
    ({"binds": ["../x:/x"]}, InvalidArgument, "If you intended to pass a host directory, use absolute path"),
    ({"binds": ["data:/x", "data:/x/"]}, InvalidArgument, "Duplicate mount point: /x"),
    ({"binds": ["data:/tmp"]}, InvalidArgument, "Duplicate mount point: /tmp"),
    ({"binds": ["data:/proc/x"]}, InvalidArgument, "cannot be mounted"),
    ({"volumes": {"x": {}}}, InvalidArgument, "invalid mount path: 'x' mount path must be absolute"),
    ({"given": one("nonsense")}, InvalidArgument, 'invalid mount config for type "nonsense": mount type unknown'),
    ({"given": one(Target="")}, InvalidArgument, 'invalid mount config for type "volume": field Target must not be empty'),
    ({"given": one(Target="t")}, InvalidArgument, "invalid mount path: 't' mount path must be absolute"),
    ({"given": one(BindOptions={})}, InvalidArgument, "field BindOptions must not be specified"),
    ({"given": one(ReadOnly=True)}, InvalidArgument, "must not set ReadOnly mode when using anonymous volumes"),
    ({"given": one(VolumeOptions={"Subpath": "a"})}, InvalidArgument, "must not set Subpath when using anonymous volumes"),
    (
        {"given": one(Source="data", VolumeOptions={"Subpath": "../a"})},
        InvalidArgument,
        "subpath must be a relative path within the volume",
    ),
    ({"given": one(VolumeOptions={"DriverConfig": {"Name": "nfs"}})}, InvalidArgument, "error looking up volume plugin nfs"),
    ({"given": one("bind")}, InvalidArgument, 'invalid mount config for type "bind": field Source must not be empty'),
    ({"given": one("bind", Source="x")}, InvalidArgument, "mount path must be absolute"),
    ({"given": one("bind", Source="/x", VolumeOptions={})}, InvalidArgument, "field VolumeOptions must not be specified"),
    ({"given": one("bind", Source="/x", BindOptions={"Propagation": "x"})}, InvalidArgument, "invalid propagation mode: x"),
    ({"given": one("image")}, InvalidArgument, 'invalid mount config for type "image": field Source must not be empty'),
    ({"given": one("image", Source="busybox", ImageOptions={"Subpath": "../x"})}, InvalidArgument, "subpath must be a relative path"),
    ({"given": one("npipe", Source="/x")}, Unsupported, "mounts of type npipe"),
    ({"given": [7]}, InvalidArgument, "each of Mounts must be an object"),
    ({"VolumesFrom": [""]}, InvalidArgument, "volumes-from specification cannot be an empty string"),
    ({"VolumesFrom": ["web:rslave"]}, InvalidArgument, "invalid mode: rslave"),
    ({"VolumesFrom": ["web:x"]}, InvalidArgument, "invalid mode: x"),
    ({"VolumeDriver": "nfs"}, InvalidArgument, "error looking up volume plugin nfs"),
]


@pytest.mark.parametrize(("asked", "kind", "sentence"), REFUSED, ids=[str(case[0])[:60] for case in REFUSED])
def test_what_is_wrong_is_said(asked: dict[str, Any], kind: type[EngineError], sentence: str) -> None:
    with pytest.raises(kind) as refused:
        read(**asked)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("where", ["binds", "given", "volumes", "others"])
def test_too_many_are_refused_at_once(where: str) -> None:
    def asked(count: int) -> tuple[MountSpec, ...]:
        if where == "binds":
            return read([f"data:/x{number}" for number in range(count)])
        if where == "given":
            return read(given=[{"Type": "volume", "Source": "data", "Target": f"/x{number}"} for number in range(count)])
        if where == "volumes":
            return read(volumes={f"/x{number}": {} for number in range(count)})
        return read([f"data:/x{number}" for number in range(count - 2)], VolumesFrom=["web"])

    begun = time.process_time()
    assert asked(1000)
    with pytest.raises(InvalidArgument, match="a container has at most 1024, not 60000" if where != "others" else "at most 1024, not "):
        asked(60000)
    assert time.process_time() - begun < 2
    if where == "others":
        with pytest.raises(InvalidArgument, match="at most 1024, not 1025"):
            asked(1025)


def test_the_engine_counts_again() -> None:
    def many(count: int) -> list[MountSpec]:
        return [MountSpec(type="volume", source="data", target=f"/x{number}") for number in range(count)]

    check_mounts(many(1024))
    with pytest.raises(InvalidArgument, match="a container has at most 1024, not 1025"):
        check_mounts(many(1025))
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x0"):
        check_mounts([*many(2), *many(1)])
