from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine.kernel import probe

pytestmark = pytest.mark.guest


def test_every_finding_says_why_and_who_can_fix_it(tmp_path: Path) -> None:
    for finding in probe.probe(tmp_path):
        assert finding.ok or (finding.reason and finding.fix), finding


@pytest.mark.requires("root", "overlay", "userns", "cgroup", kernel="5.19")
def test_a_promised_machine_lacks_nothing_required_and_nothing_stays(tmp_path: Path) -> None:
    assert [finding for finding in probe.probe(tmp_path) if finding.required and not finding.ok] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requires("root")
def test_a_file_system_that_can_not_hold_layers_is_named() -> None:
    """procfs takes neither folders nor id mappings."""
    finding = next(found for found in probe.probe(Path("/proc")) if found.name.startswith("overlay"))
    assert not finding.ok and "SLIPWAY_DATA" in finding.fix


def test_what_a_trial_raises_becomes_its_reason() -> None:
    def trial() -> str:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    finding = probe._find("new call", True, trial)
    assert (finding.ok, finding.reason) == (False, "Function not implemented")
