"""A whole platform in scratch folders, started as users start it: ``./manage.py up --detach``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
# An installed app to begin from, so that a session need not ask pip and npm again: its key is checked by ``up`` itself.
_SEEDS = (ROOT / ".venv" / "app-seed", Path("/var/lib/slipway/app"))


@dataclass
class Platform:
    """One instance. ``manage`` runs its commands, ``docker`` the stock client as a tenant."""

    data: Path
    run: Path
    http: str
    said: str = ""  # what the first ``up`` printed
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "DJANGO_")) or name == "SLIPWAY_CLAIMS"
        }
        return {**kept, "SLIPWAY_DATA": str(self.data), "SLIPWAY_RUN": str(self.run), "SLIPWAY_HTTP": self.http, **self.extra}

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def manage(self, *words: str, check: bool = True, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        return run([PYTHON, str(ROOT / "manage.py"), *words], self.environment, check=check, timeout_s=timeout_s)

    def up(self, *words: str) -> str:
        """Standard output of ``up --detach``."""
        return self.manage("up", "--detach", *words, timeout_s=1800).stdout  # emulated guests

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.manage("status", "--json", check=False).stdout))

    def part(self, name: str) -> dict[str, Any]:
        return next(part for part in self.status()["parts"] if part["name"] == name)

    def wait_healthy(self, within_s: float = 15.0) -> float:
        """Seconds until ``status`` exits 0. AssertionError with what it says otherwise."""
        began = time.monotonic()
        while True:
            done = self.manage("status", check=False)
            if done.returncode == 0:
                return time.monotonic() - began
            assert time.monotonic() - began < within_s, done.stdout + done.stderr
            time.sleep(0.1)

    def socket(self, tenant: str) -> Path:
        return self.run / "tenants" / tenant / "docker.sock"

    def docker(
        self, *words: str, tenant: str = "demo", check: bool = True, stdin: str | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{self.socket(tenant)}"}
        return run(["docker", *words], environment, check=check, timeout_s=timeout_s, stdin=stdin)

    def login(self) -> tuple[str, str]:
        """User and password, as ``up`` printed them."""
        words = next(row for row in self.said.splitlines() if row.startswith("Login")).split()
        return words[1], words[words.index("password") + 1]

    def tenant(self, name: str) -> str:
        """Made when absent."""
        if name not in self.manage("tenant", "list").stdout.split():
            self.manage("tenant", "create", name)
        deadline = time.monotonic() + 15
        while not self.socket(name).exists():
            assert time.monotonic() < deadline, f"no socket of tenant {name}"
            time.sleep(0.05)
        return name


@contextlib.contextmanager
def running(folder: Path, *words: str, **extra: str) -> Iterator[Platform]:
    """A new instance below ``folder``, uninstalled afterwards, also when it did not come up."""
    platform = Platform(folder / "data", folder / "run", f"127.0.0.1:{free_port()}", extra=extra)
    try:
        _plant_seed(platform.data / "app")
        platform.said = platform.up(*words)
        _keep_seed(platform.data / "app")
        yield platform
    finally:
        _keep_logs(platform)
        if (platform.data / "app" / "current").exists():
            platform.manage("uninstall", "--yes")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def run(
    command: list[str], environment: dict[str, str], *, check: bool, timeout_s: float, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=environment, input=stdin or "", capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _plant_seed(app: Path) -> None:
    for seed in _SEEDS:
        if (seed / "venvs").is_dir():
            app.parent.mkdir(parents=True, exist_ok=True)
            _copy(seed, app)
            return


def _keep_seed(app: Path) -> None:
    """Whole or not at all: a session may be interrupted while it copies."""
    seed, making = _SEEDS[0], _SEEDS[0].with_suffix(".making")
    with contextlib.suppress(OSError):
        shutil.rmtree(making, ignore_errors=True)
        _copy(app, making)
        shutil.rmtree(seed, ignore_errors=True)
        making.rename(seed)


def _copy(source: Path, target: Path) -> None:
    """Hard links where both are on one file system: an installed app is never written again."""
    if subprocess.run(["cp", "-al", source, target], capture_output=True, check=False).returncode:
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run(["cp", "-a", source, target], check=True)


def _keep_logs(platform: Platform) -> None:
    """SLIPWAY_TEST_LOGS names a folder for the parts' logs of a session."""
    if (target := os.environ.get("SLIPWAY_TEST_LOGS")) and (platform.data / "log").is_dir():
        shutil.copytree(platform.data / "log", target, dirs_exist_ok=True)
