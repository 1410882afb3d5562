"""Several processes of a panel at one quota: exactly as many are admitted as it has room for, on either database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, open_folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{open_folder}/panel.sqlite3"
        return
    if postgres.programs() is None or os.geteuid() != 0:
        pytest.skip("no PostgreSQL on this machine")
    with postgres.running(open_folder) as url:
        yield url


def test_of_200_creates_in_4_processes_a_quota_of_100_admits_100(database_url: str, open_folder: Path) -> None:
    places = {"DATABASE_URL": database_url, "SLIPWAY_DATA": str(open_folder / "data"), "SLIPWAY_RUN": str(open_folder / "run")}
    command = [sys.executable, "-m", "tests.controlpanel.tenants.quota.many", "4", "200", "100"]
    done = subprocess.run(command, env={**os.environ, **places}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"admitted": 100, "refused": 100, "rows": 100}
