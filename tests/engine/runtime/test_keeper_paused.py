"""A keeper that is told to stop, and containers that are paused."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import disk
from engine.kernel import cgroups
from engine.runtime.client import launch

from .launching import Host, until

pytestmark = [pytest.mark.guest, pytest.mark.requires("root", "overlay", "cgroup", "userns")]


def test_what_is_paused_ends_when_everything_is_stopped(open_folder: Path) -> None:
    """It takes its SIGTERM, for which it has to run."""
    host = Host(open_folder)
    try:
        words = host.words("sh", "-c", "trap 'exit 5' TERM; echo ready; while true; do sleep 0.05; done")
        with launch(host.config, **words) as launched:
            launched.start()
        log = host.config.container(words["id"]) / "log/1.data"
        until(lambda: log.exists() and b"ready" in log.read_bytes())
        cgroups.freeze(words["config"]["linux"]["cgroupsPath"])
    finally:
        host.close()
    assert disk.read_json(host.config.container(words["id"]) / "exit.json")["exit_code"] == 5
