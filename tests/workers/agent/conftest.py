"""A real engine with keeper, launcher and logger, one tenant, a busybox image; and the agent as a real process."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine import errors, leaving
from engine.config import EngineConfig
from engine.engine import Engine
from engine.images import demo
from engine.model.container import ContainerSpec
from tests.support import scratch
from tests.workers.conftest import RedisServer, WorkerProcess
from workers import tickets

TENANT = "acme"
TIMEOUT_S = 60.0  # a guest that is emulated needs seconds


class Host:
    """One host's engine, and questions to its agent."""

    def __init__(self, config: EngineConfig, engine: Engine, image_id: str, agent: WorkerProcess) -> None:
        self.config, self.engine, self.image_id, self.agent = config, engine, image_id, agent

    def create(self, *args: str, **words: Any) -> str:
        container_id = secrets.token_hex(32)
        spec = ContainerSpec(
            id=container_id, tenant=TENANT, name=f"c{container_id[:8]}", image_id=self.image_id, image="busybox", args=args,
            env=("PATH=/bin",), network_mode="none", **words,
        )  # fmt: skip
        self.engine.create(spec)
        return container_id

    def start(self, container_id: str) -> None:
        self.engine.start(TENANT, container_id)

    def run(self, *args: str, **words: Any) -> str:
        container_id = self.create(*args, **words)
        self.start(container_id)
        return container_id

    @asynccontextmanager
    async def stream(
        self, op: str, container_id: str = "", *, tenant: str = TENANT, **words: Any
    ) -> AsyncIterator[tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]]:
        """(ok, reader, writer); raises what the agent answers."""
        reader, writer = await asyncio.open_unix_connection(str(self.config.agent_socket), limit=1 << 20)
        try:
            writer.write(json.dumps({"v": 1, "op": op, "tenant": tenant, "id": container_id, **words}).encode() + b"\n")
            answer = json.loads(await reader.readline())
            if "error" in answer:
                raise errors.from_json(answer["error"])
            async with asyncio.timeout(TIMEOUT_S):
                yield answer["ok"], reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def until(true: Callable[[], bool], *, within_s: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)


def listens(config: EngineConfig) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(config.agent_socket)) == 0


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Docker's frames; neighbours of one stream are put together."""
    found: list[tuple[int, list[bytes]]] = []
    at = 0
    while at < len(data):
        stream, size = data[at], int.from_bytes(data[at + 4 : at + 8], "big")
        if not found or found[-1][0] != stream:
            found.append((stream, []))
        found[-1][1].append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return [(stream, b"".join(pieces)) for stream, pieces in found]


@pytest.fixture(scope="module")
def agent_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def running_host(agent_redis: RedisServer) -> Iterator[Host]:
    with scratch.open_folder() as folder:
        yield from _running(folder, agent_redis)


def _running(folder: Path, agent_redis: RedisServer) -> Iterator[Host]:
    config = EngineConfig(folder / "data", folder / "run")
    config.run.mkdir(mode=0o755)
    (config.data / "panel").mkdir(parents=True)
    (config.data / "panel" / "ticket.key").write_bytes(b"k" * 64)
    engine = Engine(config)
    environment = {
        "SLIPWAY_DATA": str(config.data), "SLIPWAY_RUN": str(config.run), "SLIPWAY_HOST": "test", "REDIS_URL": agent_redis.url
    }  # fmt: skip
    agent = WorkerProcess(["-m", "workers.agent"], environment, folder / "agent.log")
    try:
        engine.keeper.ensure_running()
        engine.ensure_tenant(TENANT)
        image_id = demo.load(engine.images)
        agent.start()
        until(lambda: listens(config))
        yield Host(config, engine, image_id, agent)
    finally:
        agent.stop()
        engine.keeper.stop(containers=True)
        leaving.remove_all(engine)
        if log := os.environ.get("SLIPWAY_TEST_LOGS"):
            Path(log, "agent.log").write_bytes((folder / "agent.log").read_bytes())


@pytest.fixture
def host(running_host: Host) -> Iterator[Host]:
    yield running_host
    for spec, _state in running_host.engine.list():
        running_host.engine.remove(spec.tenant, spec.id, force=True)


def ticket(op: str, container_id: str) -> str:
    return tickets.sign(b"k" * 64, op, TENANT, container_id)
