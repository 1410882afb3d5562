"""Copies of volumes and returns to them while others are at it: each other, starts, and who puts a link on the way."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine import disk, filling, snapshots, treecopy
from engine.errors import FailedPrecondition
from engine.files import stack
from engine.kernel import syscalls
from engine.model.image import ImageRecord
from engine.model.volume import VolumeSpec
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


def test_nothing_is_written_through_a_link_that_is_put_on_the_way(tmp_path: Path) -> None:
    """The folder that a copy is just filling is exchanged for one with a link: as two copies into one place would."""
    source, target, outside = (tmp_path / name for name in ("source", "target", "outside"))
    for folder in (source / "x" / "l", outside):
        folder.mkdir(parents=True)
    (source / "x" / "l" / "evil").write_text("x")
    top = os.open(source, os.O_PATH)
    copy = treecopy.new_folder(target)

    class Hurried(stack.Folder):
        def names(self, layers: Sequence[int]) -> set[str]:
            found = super().names(layers)
            if found == {"evil"}:  # everything above is made, and this folder, too
                os.rename(target / "x", target / "away")
                os.symlink(outside, target / "x")
                (outside / "l").mkdir(exist_ok=True)
            return found

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        patch.setattr(stack, "Folder", Hurried)
        treecopy.TreeCopy(copy).folder(stack.Found(os.fstat(top), top, (top,)), ".")
    os.close(top)
    os.close(copy)
    assert list(outside.rglob("*")) == [outside / "l"] and stat.S_IMODE(outside.stat().st_mode) == 0o755
    with pytest.raises(FileExistsError):
        treecopy.copy_below(source, target / "x")


def test_two_returns_at_once_follow_each_other(place: Bench, open_folder: Path) -> None:
    """The second's snapshot has a folder where the volume has a link out: what a compromised panel would ask for."""
    engine = place.engine
    engine.volumes.create(VolumeSpec(tenant=TENANT, name="both"))
    data = engine.volumes.folder(TENANT, "both") / "_data"
    for number in range(3000):
        (data / f"f{number}").touch()
    snapshots.take(engine, TENANT, "both", "flat")
    disk.remove_tree(data)
    (data / "x" / "l").mkdir(parents=True)
    for number in range(3000):
        (data / "x" / "l" / f"f{number}").touch()
    snapshots.take(engine, TENANT, "both", "deep")
    disk.remove_tree(data / "x")
    (data / "x").mkdir()
    (data / "x" / "l").symlink_to(open_folder)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda number: snapshots.restore(engine, TENANT, "both", ("flat", "deep")[number % 2]), range(6)))
    assert os.listdir(open_folder) == []
    assert len(os.listdir(data)) in (1, 3000)
    assert sorted(os.listdir(data.parent)) == [".filling.lock", "_data", "snapshots", "users", "volume.json"]
    (data.parent / "restored.00ff").mkdir()
    (data.parent / "is-filled").touch()
    filling.recover(engine)
    assert not (data.parent / "restored.00ff").exists()
    engine.volumes.remove(TENANT, "both")


def test_a_container_that_starts_during_a_return_has_the_one_or_the_other(
    place: Bench, image: ImageRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = place.engine
    run(engine, spec_of(image, "echo old > /v/f", volume("moved", "/v")))
    snapshots.take(engine, TENANT, "moved", "one")
    run(engine, spec_of(image, "echo new > /v/f", volume("moved", "/v")))
    user = spec_of(image, "cat /v/f; sleep 100", volume("moved", "/v"))
    engine.create(user)
    exchange, begun = syscalls.exchange, []

    def slowly(*folders: Any) -> None:
        begun.append(threading.Thread(target=engine.start, args=(TENANT, user.id)))
        begun[0].start()
        begun[0].join(0.5)
        assert begun[0].is_alive()  # it waits
        exchange(*folders)

    monkeypatch.setattr(syscalls, "exchange", slowly)
    snapshots.restore(engine, TENANT, "moved", "one")
    begun[0].join(30)
    assert engine.state(TENANT, user.id).has_process
    seen = Path(f"/proc/{engine.state(TENANT, user.id).pid}/root/v/f").read_text()
    assert seen == "old\n"
    engine.remove(TENANT, user.id, force=True)
    under_way = spec_of(image, "true", volume("moved", "/v"))
    engine.volumes.take(under_way)
    with pytest.raises(FailedPrecondition, match="just being made"):
        snapshots.restore(engine, TENANT, "moved", "one")
    engine.volumes.leave(under_way, remove=False)
    engine.volumes.remove(TENANT, "moved")
