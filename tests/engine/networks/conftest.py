from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engine.networks import netd as netds
from tests.engine.networks.machine import Instance, own_host


@pytest.fixture
def host() -> Iterator[None]:
    """The test runs on a host of its own."""
    with own_host():
        yield


@pytest.fixture
def new_instance(host: None, tmp_path: Path) -> Iterator[Callable[[], Instance]]:
    with ExitStack() as stack:
        yield lambda: Instance(tmp_path / f"{len(list(tmp_path.iterdir()))}", stack)


@pytest.fixture
def instance(new_instance: Callable[[], Instance]) -> Instance:
    return new_instance()


@pytest.fixture
def netd(host: None, tmp_path: Path) -> Iterator[netds.Process]:
    process = netds.Process(tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def boxes(netd: netds.Process) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def box(netd: netds.Process, boxes: ExitStack) -> int:
    """Container 1, in NETWORK, which is called "front"."""
    return netds.served(netd, boxes, 1, "web", "www")
