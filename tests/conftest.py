"""What every test may ask for: ``requires`` and a whole ``platform``; and the look around when all is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xdist
from xdist.scheduler import LoadScopeScheduling

from tests.support import leftovers, machine, scratch
from tests.support import platform as platforms
from workers.platform import apt

_before: set[str] = set()
_OF_A_PLATFORM = ("tests/flows/", "tests/conformance/", "tests/attack/", "tests/fuzz/")


@pytest.hookimpl(trylast=True)  # when it is known which tests were chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A browser is installed for tests that look at pages, and only for them: on a slow machine that alone takes minutes.

    So are git and compose, and an NFS server where the kernel has one.
    """
    wanted = {need for item in items for marker in item.iter_markers("requires") for need in marker.args}
    nfs = {} if machine.kernel_without_nfs() else apt.NFS
    for need, packages in (("chromium", apt.BROWSER), ("git", apt.GIT), ("compose", apt.COMPOSE), ("nfs", nfs)):
        if need in wanted and not config.option.collectonly and os.geteuid() == 0:
            apt.install(apt.missing(packages))


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

    Registries on 127.0.0.1 may be reached, on 127.0.0.9 not. It has a TLS port.
    """
    variables = {"SLIPWAY_REGISTRIES_ALLOWED": "127.0.0.0/30", "SLIPWAY_TLS": f"127.0.0.1:{platforms.free_port()}"}
    with scratch.open_folder() as folder, platforms.running(folder, **variables) as instance:
        yield instance


class Lanes(LoadScopeScheduling):
    """``-n 2``: what asks for a platform stays in one process, which then makes one for all; else a file's tests stay together."""

    def _split_scope(self, nodeid: str) -> str:
        return "platform" if nodeid.startswith(_OF_A_PLATFORM) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    _before.update(leftovers.found())


@pytest.hookimpl(trylast=True)  # after pytest itself has torn down what lives for a session
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where a machine is promised to be ours alone, leftovers fail the session; elsewhere another platform may have moved.

    Who runs in a lane leaves the look around to who waits for all lanes.
    """
    left = [] if xdist.is_xdist_worker(session) else sorted(leftovers.found() - _before)
    if left and machine.promised():
        print("\nleft on this machine:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
