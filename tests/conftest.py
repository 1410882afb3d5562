"""What every test may ask for: ``requires`` and a whole ``platform``; and the look around when all is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leftovers, machine, scratch
from tests.support import platform as platforms

_before: set[str] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires"):
        reasons = {need: machine.lacking(need) for need in marker.args}
        if version := marker.kwargs.get("kernel"):
            reasons["kernel"] = machine.kernel_older_than(version)
        for need, reason in reasons.items():
            if reason is None:
                continue
            if need in machine.promised():
                pytest.fail(f"promised here, but: {reason}", pytrace=False)
            pytest.skip(reason)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A scratch folder that every user may pass through, as the parts' own users must; pytest's tmp_path is root's alone."""
    with scratch.open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def platform() -> Iterator[platforms.Platform]:
    """One instance for the whole session, with the demo tenant. Whoever stops a part of it brings it back.

    Registries on 127.0.0.1 may be reached, on 127.0.0.9 not.
    """
    with scratch.open_folder() as folder, platforms.running(folder, SLIPWAY_REGISTRIES_ALLOWED="127.0.0.0/30") as instance:
        yield instance


def pytest_sessionstart(session: pytest.Session) -> None:
    _before.update(leftovers.found())


@pytest.hookimpl(trylast=True)  # after pytest itself has torn down what lives for a session
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where a machine is promised to be ours alone, leftovers fail the session; elsewhere another platform may have moved."""
    left = sorted(leftovers.found() - _before)
    if left and machine.promised():
        print("\nleft on this machine:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
