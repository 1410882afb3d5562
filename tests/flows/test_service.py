"""The systemd units, on a machine that was booted with systemd."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.test_up import demo_pid
from tests.support import machine
from tests.support import platform as platforms
from tests.support.platform import Platform
from workers.platform import service
from workers.platform.places import Places

pytestmark = [pytest.mark.requires("root", "systemd", "overlay", "userns", "cgroup", "nft"), pytest.mark.guest, pytest.mark.timeout(3600)]


def systemctl(*words: str, check: bool = True) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"systemctl {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def own(open_folder: Path) -> Iterator[Platform]:
    with platforms.running(open_folder) as instance:
        yield instance


def test_units_start_the_platform_and_containers_outlive_its_restart(own: Platform) -> None:
    platform, keeper = service.names(Places.from_environment(own.environment))
    own.manage("down", "--containers")
    own.manage("service", "install")
    assert [systemctl("is-enabled", unit) for unit in (platform, keeper)] == ["enabled", "enabled"]

    systemctl("start", platform)
    own.wait_healthy(60 * machine.slowness())
    assert systemctl("is-active", keeper) == "active"
    own.docker("start", "demo")
    pid, web = demo_pid(own), own.part("web")["pid"]

    systemctl("restart", platform)
    own.wait_healthy(60 * machine.slowness())
    assert own.part("web")["pid"] != web
    assert demo_pid(own) == pid

    systemctl("stop", platform)
    assert Path(f"/proc/{pid}").exists()
    systemctl("stop", keeper)
    deadline = time.monotonic() + 30 * machine.slowness()
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)

    own.manage("service", "remove")
    assert systemctl("is-enabled", platform, check=False) != "enabled"
    assert not Path("/etc/systemd/system", platform).exists()
