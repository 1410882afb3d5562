"""A uvicorn server on several sockets, each with a label, that may come and go while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from controlpanel.server.protocol import HijackProtocol
from controlpanel.server.tls import TlsProtocol

KEEP_ALIVE_S = 75  # nginx' default: a proxy in front must be the one that closes idle connections
GRACE_S = 3  # for answers under way when the server goes down; streams are cut at once


def configuration(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HijackProtocol,
        ws="websockets-sansio",
        ws_max_size=1 << 20,
        loop="uvloop",
        interface="asgi3",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )


class PanelServer(uvicorn.Server):
    """``async with server.running():`` add listeners, then ``await server.main_loop()``, which ends when ``should_exit`` is set."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._by_label: dict[str, asyncio.base_events.Server] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The application's own start. Nothing listens yet."""
        if not self.config.loaded:
            self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SystemExit("the application did not start: see its log")
        self.servers = []
        self.started = True
        await self.on_tick(0)  # the Date header

    async def add_listener(self, label: str, sock: socket.socket, *, tls: ssl.SSLContext | None = None) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        plain = functools.partial(
            HijackProtocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state, listener=label
        )
        make = functools.partial(TlsProtocol, tls, plain) if tls is not None else plain
        if sock.family == socket.AF_UNIX:
            # the name outlives this process: the supervisor keeps the socket. From Python 3.13 on it would be unlinked by default
            server = await loop.create_unix_server(make, sock=sock, backlog=self.config.backlog, cleanup_socket=False)  # type: ignore[call-arg]
        else:
            server = await loop.create_server(make, sock=sock, backlog=self.config.backlog)
        self._by_label[label] = server
        self.servers.append(server)

    def remove_listener(self, label: str) -> None:
        """No new connections; and those under way end: their tenant is gone."""
        server = self._by_label.pop(label)
        self.servers.remove(server)
        server.close()
        for connection in list(self.server_state.connections):
            if getattr(connection, "listener", None) == label:
                connection.transport.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[PanelServer]:
        """Started inside the block; shut down after it."""
        await self.startup()
        try:
            yield self
        finally:
            await self.shutdown()
