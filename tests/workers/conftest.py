"""A private Redis on a unix socket, and workers as real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.resp import Address, Redis, RedisError


class RedisServer:
    """One redis-server that can be killed and started again."""

    def __init__(self, folder: Path, *, append_only: bool = False) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.append_only = append_only
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", "",
             "--appendonly", "yes" if self.append_only else "no", "--daemonize", "no"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                self.client().execute(("PING",))
                return
            except (OSError, RedisError):
                time.sleep(0.01)
        raise AssertionError("redis-server does not answer")

    def client(self) -> Redis:
        return Redis(Address.parse(self.url))

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


class WorkerProcess:
    """``python -c CODE`` as a worker; ``kill`` is SIGKILL."""

    def __init__(self, argv: list[str], environment: dict[str, str], log: Path) -> None:
        self.argv, self.environment, self.log = argv, environment, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, *self.argv], env={**os.environ, **self.environment}, stdout=log, stderr=log)

    def signal(self, number: int) -> int:
        """Sends it and waits for the end."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(tmp_path: Path, redis_server: RedisServer) -> dict[str, str]:
    data, run = tmp_path / "data", tmp_path / "run"
    (data / "engine").mkdir(parents=True)
    run.mkdir()
    return {"SLIPWAY_DATA": str(data), "SLIPWAY_RUN": str(run), "SLIPWAY_HOST": "test", "REDIS_URL": redis_server.url}


@pytest.fixture
def counting_worker(environment: dict[str, str], tmp_path: Path) -> Iterator[WorkerProcess]:
    """Drinks queue host.test; its tasks are in tests/workers/counting.py."""
    worker = WorkerProcess(["-m", "tests.workers.counting"], environment, tmp_path / "worker.log")
    worker.start()
    yield worker
    worker.stop()
