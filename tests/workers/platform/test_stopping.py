"""``down --containers`` and ``uninstall`` end the keeper's family whatever just happened to it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from engine.runtime import lock
from engine.runtime.client import KeeperClient
from workers.platform import stopping
from workers.platform.places import Places

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")]


@pytest.fixture
def places(open_folder: Path) -> Places:
    return Places.from_environment({"SLIPWAY_DATA": str(open_folder / "data"), "SLIPWAY_RUN": str(open_folder / "run")})


@pytest.mark.parametrize("killed", [(), ("keeper",), ("foster",)])
def test_nobody_is_left(places: Places, killed: tuple[str, ...]) -> None:
    keeper = KeeperClient(places.engine)
    keeper.ensure_running()
    pids = {name: part["pid"] for name, part in keeper.parts().items()}
    for name in killed:  # its heir is not there yet
        os.kill(pids[name], signal.SIGKILL)
    stopping.stop_containers(places)
    assert not lock.is_held(places.engine)
    assert [name for name, pid in pids.items() if is_alive(pid)] == []


def test_a_foster_that_dies_while_all_ends_gets_no_heir(places: Places) -> None:
    """The last part's end may be heard by the keeper that has just become another's child."""
    keeper = KeeperClient(places.engine)
    for _ in range(10):
        keeper.ensure_running()
        os.kill(keeper.parts()["foster"]["pid"], signal.SIGKILL)
        stopping.stop_containers(places)


def test_who_looks_at_the_lock_keeps_nobody_from_it(places: Places) -> None:
    places.run.mkdir(parents=True)
    assert not lock.is_held(places.engine)
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            lock.is_held(places.engine)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(50):
            fd = lock.take(places.engine)
            assert fd is not None
            os.close(fd)
    finally:
        over.set()
        watcher.join()


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
