"""The registry served by our own server over a real port, with rows in a real database and files in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from controlpanel.server import listeners
from controlpanel.server.serve import PanelServer, configuration
from controlpanel.tenants import rates
from tests.controlpanel.conftest import People
from tests.support.oci import Client
from tests.support.tls import Keys

Serve = Callable[..., AbstractContextManager[str]]


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """HOST:PORT of a server in a thread of its own."""
    from controlpanel.registry import app

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
        else:
            await app.application(scope, receive, send)

    ready, where = threading.Event(), [""]
    ending: list[Callable[[], None]] = []

    async def serve() -> None:
        server, ended = PanelServer(configuration(application)), asyncio.Event()
        sock = listeners.open_http("127.0.0.1:0")
        where[0] = f"127.0.0.1:{sock.getsockname()[1]}"
        loop = asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(ended.set))
        async with server.running():
            await server.add_listener("tls" if tls else "http", sock, tls=tls)
            ready.set()
            await ended.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield where[0]
    finally:
        ending[0]()
        thread.join(10)


@pytest.fixture
def storage(tmp_path: Path, settings: Any, people: People) -> Path:
    """The registry's folder."""
    from controlpanel.accounts import adapter
    from controlpanel.registry import subjects

    subjects._right.clear()
    rates.clear()
    for user in (people.alice, people.bob, people.victor, people.charlie):
        adapter.unlock(user, "127.0.0.1")
    settings.PANEL_DIR = tmp_path / "panel"  # as a process with SLIPWAY_DATA there has it
    return tmp_path / "panel" / "registry"


@pytest.fixture
def host(storage: Path) -> Iterator[str]:
    with serving() as where:
        yield where


@pytest.fixture
def alice(host: str) -> Client:
    """An owner of acme, by password."""
    return client_of(host, "alice")


def client_of(host: str, name: str, **more: Any) -> Client:
    return Client(host, (name, f"{name}-has-a-password"), **more)


@pytest.fixture
def tls(storage: Path, keys: Keys) -> Iterator[Client]:
    from controlpanel.server.tls import Files, context_of

    folder = keys.folder
    context = context_of(Files(folder / "server.pem", folder / "server.key", folder / "clients.pem"))
    with serving(context) as where:
        yield client_of(where, "alice", tls=keys.nobody())
