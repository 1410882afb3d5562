"""Parts are killed at random moments under load, and power is cut: none is lost or doubled, and nothing is left. SEED, KILLS repeat a run.

The long form with a report: ``python -m tests.faults --seed N --kills 200``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.power import power_cut
from tests.faults.run import TENANT, fault_run
from tests.support import platform as platforms
from tests.support import scratch
from tests.support.platform import Platform

pytestmark = [pytest.mark.long, pytest.mark.timeout(3000), pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft", "docker")]

SEED = int(os.environ.get("SEED", "1"))
KILLS = int(os.environ.get("KILLS", "60"))


@pytest.fixture
def faulty() -> Iterator[Platform]:
    """An instance of its own: others would not know why theirs is gone."""
    with scratch.open_folder() as folder, platforms.running(folder) as platform:
        platform.tenant(TENANT)
        platform.docker("run", "--rm", "busybox", "true", tenant=TENANT)  # the tenant's bridge and cgroup, which stay
        yield platform


def test_random_kills_lose_and_double_nothing_and_leave_nothing(faulty: Platform) -> None:
    report = fault_run(faulty, seed=SEED, kills=KILLS, clients=4)
    print(report.text())
    assert not report.findings


def test_after_a_power_cut_all_that_was_safe_is_there_and_nothing_is_left(faulty: Platform) -> None:
    findings, said = power_cut(faulty, seed=SEED)
    print(said)
    assert not findings
