"""uvicorn's httptools protocol with ``http.hijack``, a label for each listener, and the peer's credentials."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from controlpanel.server.hijack import Hijack
from controlpanel.server.tls import fingerprint

TENANT_PREFIX = "tenant-"  # of the labels of tenants' own sockets
_RAW_WEBSOCKET = b"/attach/ws"  # the Docker API's websocket is a raw stream to us, on every listener
MAX_HEAD = 256 << 10  # bytes of request line and headers
LINGER_S = 1.0  # between a refusal and the end of the connection
_UCRED = struct.Struct("=3i")  # struct ucred, unix(7)


class HijackProtocol(HttpToolsProtocol):
    """One connection. ``listener`` is the label of the socket it came in by."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        listener: str = "http",
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.listener = listener
        if listener.startswith(TENANT_PREFIX):
            self.ws_protocol_class = None  # a tenant's socket carries the Docker API only
        self._caller: dict[str, Any] = {}
        self._hijack: Hijack | None = None
        self._body_left = 0  # of an upgrade request: bytes that belong to its body
        self._head_bytes = 0
        self._refused = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        peer = None
        if sock.family == socket.AF_UNIX:
            pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            peer = {"pid": pid, "uid": uid, "gid": gid}
        else:  # asyncio does so only for sockets made with proto=IPPROTO_TCP; without it each small write waits 40 ms
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._caller = {"listener": self.listener, "peer": peer, "certificate": fingerprint(transport)}
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._hijack is not None:
            self._feed_raw(data)
            return
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._begin_upgrade(data[stopped.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._head_bytes > MAX_HEAD:
                self._refuse(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    def eof_received(self) -> bool:  # type: ignore[override]
        return self._hijack.feed_eof() if self._hijack is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._hijack is not None:
            self._hijack.lost()
        super().connection_lost(exc)

    # Parser

    def on_headers_complete(self) -> None:
        self._unset_keepalive_if_required()  # only now: a head that trickles in is as idle as none
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        hijack = Hijack(self.transport, self.flow, cycle, self._hijacked)
        cycle.scope["extensions"] = {"http.hijack": {**self._caller, "cut": hijack.cut_off, "ended": hijack.when_ended}}

        async def run(scope: Any, receive: Any, send: Any) -> None:
            hijack.task = asyncio.current_task()
            try:
                await app(scope, hijack.receive, hijack.send)
            except (ConnectionError, asyncio.CancelledError):
                if not hijack.is_gone:
                    raise
            if hijack.active:
                hijack.finish(self.loop)

        cycle.hijack = hijack  # type: ignore[attr-defined]
        super()._start_asgi_task(cycle, run)

    # Upgrades

    def _should_upgrade(self) -> bool:
        """To a websocket of the panel's. Asked before there is a scope: of such a request uvicorn makes none."""
        return super()._should_upgrade() and not self.url.partition(b"?")[0].endswith(_RAW_WEBSOCKET)

    def _begin_upgrade(self, rest: bytes) -> None:
        """httptools takes a request with ``Upgrade`` as ended after its head, whatever Content-Length says; what follows
        the body is the stream's, already before the app has agreed to one."""
        cycle, length = self.cycle, 0
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                self._refuse(b"HTTP/1.1 411 Length Required\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                return
        cycle.keep_alive = False  # whatever the app answers: nothing after this request is HTTP
        hijack: Hijack | None = getattr(cycle, "hijack", None)
        if hijack is None:  # behind a pipelined request: no known client does that
            self.transport.close()
            return
        self._hijack = hijack
        self._body_left = length
        if length:
            cycle.more_body = True
        self._feed_raw(rest)

    def _feed_raw(self, data: bytes) -> None:
        hijack = self._hijack
        assert hijack is not None
        if self._body_left:
            body, data = data[: self._body_left], data[self._body_left :]
            self._body_left -= len(body)
            cycle = self.cycle
            cycle.body += body
            cycle.more_body = self._body_left > 0
            cycle.message_event.set()
        hijack.feed(data)

    def _hijacked(self, hijack: Hijack) -> None:
        self._hijack = hijack
        self._unset_keepalive_if_required()

    # Ends

    def shutdown(self) -> None:
        if self._hijack is not None and self._hijack.active:
            self._hijack.cut()
        else:
            super().shutdown()

    def _refuse(self, response: bytes) -> None:
        """Closed a moment later: closing while the client's bytes lie unread would reset the connection, and with it the answer."""
        self._refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True  # what the app may still answer comes too late
        self.transport.write(response)
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
