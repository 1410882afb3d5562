"""Records of volumes that cannot be read, creates that take long, and sizes that no disk has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import binds, filling, recovery
from engine.ceilings import Folder
from engine.errors import FailedPrecondition, InvalidArgument, NotFound
from engine.model.image import ImageRecord
from engine.model.volume import MountSpec, VolumeSpec
from engine.volumes import disks, store
from tests.engine.builds.building import TENANT, Bench, bench
from tests.engine.volumes.test_volumes import CONTENT, run, spec_of, volume

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup")


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.fixture(scope="module")
def image(place: Bench) -> ImageRecord:
    return place.build(CONTENT).record


@pytest.mark.parametrize("record", ['{"tenant": "x", "name"', "[]", '{"tenant": 7}', "\\xff"])
def test_a_damaged_record_is_nobody_elses_trouble(place: Bench, image: ImageRecord, record: str, caplog: pytest.LogCaptureFixture) -> None:
    volumes = place.engine.volumes
    for name in ("bad", "good"):
        volumes.create(VolumeSpec(tenant=TENANT, name=name))
    damaged = volumes.folder(TENANT, "bad") / "volume.json"
    damaged.write_text(record)
    assert [spec.name for spec in volumes.list()] == ["good"] and volumes.usage(TENANT) == {"bad": 0, "good": 0}
    recovery.recover(place.engine)
    with pytest.raises(NotFound, match="get bad: no such volume"):
        volumes.get(TENANT, "bad")
    assert volumes.prune(TENANT, ["bad"]) == ([], 0)
    assert len([line for line in caplog.messages if "bad" in line]) == 1
    volumes.remove(TENANT, "bad")
    with pytest.raises(NotFound):
        volumes.remove(TENANT, "bad")
    volumes.create(VolumeSpec(tenant=TENANT, name="bad"))
    damaged.write_text(record)
    assert volumes.create(VolumeSpec(tenant=TENANT, name="bad")) == volumes.get(TENANT, "bad")
    damaged.write_text(record)
    assert run(place.engine, spec_of(image, "echo fine > /v/x; cat /v/x", volume("bad", "/v"))) == "fine\n"
    assert [spec.name for spec in volumes.prune(TENANT, ["bad", "good"])[0]] == ["bad", "good"]


def test_a_missing_source_is_made_as_its_owners(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that others write to, too: they exchange what was just made for something that is not theirs."""
    (open_folder / "secret").mkdir(mode=0o700)
    make = os.mkdir

    def exchanged(name: str, *words: Any, **more: Any) -> None:
        make(name, *words, **more)
        if name == "new":
            (open_folder / "new").rename(open_folder / "away")
            (open_folder / "secret").rename(open_folder / "new")

    monkeypatch.setattr(os, "mkdir", exchanged)
    mount = MountSpec(type="bind", target="/x", source=f"{open_folder}/new/sub", create=True)
    binds._ensure(Folder(path=str(open_folder)), mount, 100_000)
    assert (os.stat(open_folder / "new").st_uid, os.stat(open_folder / "new" / "sub").st_uid) == (0, 100_000)
    made = os.stat(open_folder / "away")
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (100_000, 100_000, 0o755)
    (open_folder / "as-before").mkdir()
    assert os.stat(open_folder / "as-before").st_uid == 0
    os.chown(open_folder / "as-before", 5, 5)  # with all of root's rights again


@pytest.mark.requires("loop")
def test_a_size_is_at_most_the_disks_and_costs_little(place: Bench) -> None:
    volumes = place.engine.volumes
    status = os.statvfs(place.engine.config.data)
    whole = status.f_blocks * status.f_frsize
    for size in (str(whole + 1), "8000t", "15p"):
        with pytest.raises(InvalidArgument, match="more than this host's whole disk"):
            volumes.create(VolumeSpec(tenant=TENANT, name="huge", options={"size": size}))
    made = volumes.create(VolumeSpec(tenant=TENANT, name="large", options={"size": str(whole // 4096 * 4096)}))
    image = volumes.folder(TENANT, "large") / store.IMAGE
    if made.limit == store.DISK:
        assert image.stat().st_blocks * 512 < 64 << 20
    with pytest.raises(InvalidArgument, match="more than this host's whole disk"):
        volumes.resize(TENANT, "large", str(whole + 1))
    volumes.remove(TENANT, "large")
    with pytest.raises(InvalidArgument, match="more than one file may have"):
        disks.make(place.engine.config.data / "file", 1 << 62, "x")


def test_a_create_that_takes_long_keeps_its_volume(place: Bench, image: ImageRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, volumes = place.engine, place.engine.volumes
    monkeypatch.setattr(store, "UNFINISHED_S", -1.0)  # every mark is an old one
    fill, spec = filling._fill, spec_of(image, "ls /data", volume("slow", "/data"))

    def slowly(*words: Any) -> None:
        with pytest.raises(FailedPrecondition, match="volume is in use"):
            volumes.remove(TENANT, "slow")
        assert volumes.prune(TENANT, ["slow"]) == ([], 0)
        volumes.recover()
        fill(*words)

    monkeypatch.setattr(filling, "_fill", slowly)
    assert run(engine, spec) == "again\nlink\nsub\n"
    volumes.remove(TENANT, "slow")

    monkeypatch.setattr(filling, "_fill", lambda *_words: volumes._discard(TENANT, "slow"))
    with pytest.raises(FailedPrecondition, match="volume slow was removed while"):
        engine.create(spec_of(image, "true", volume("slow", "/data")))
    assert engine.list() == [] and volumes.names(TENANT) == []
    monkeypatch.setattr(filling, "_fill", fill)
    killed = spec_of(image, "true", volume("slow", "/data"))
    volumes.take(killed)
    assert volumes.users(TENANT, "slow") == []
    volumes.remove(TENANT, "slow")
