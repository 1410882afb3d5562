"""The ASGI extension ``http.hijack``: a request becomes a raw byte stream in both directions.

Docker's attach and exec need it: an ordinary ASGI response can't be read from and written to at once, nor end in one direction
only. ``scope["extensions"]["http.hijack"]`` is there for every HTTP request and says who is calling:

    {"listener": "http" | "tls" | "tenant-<name>", "peer": {"pid", "uid", "gid"} | None (not a unix socket),
     "certificate": SHA-256 in hex of the client's certificate (DER) | None,
     "cut": a function of seconds that ends this request and its connection as if the client had left, see ``Hijack.cut_off``,
     "ended": a function that calls another one when this request is over}

    app sends     {"type": "http.hijack.start", "status": 101 | 200, "headers": [(bytes, bytes), …]}
    app receives  {"type": "http.hijack.receive", "data": bytes}       never empty
                  {"type": "http.hijack.eof"}                          the client closed its half; it still reads
                  {"type": "http.disconnect"}                          the connection is gone; ``send`` raises from now on
    app sends     {"type": "http.hijack.send", "data": bytes}          waits while the client doesn't read
                  {"type": "http.hijack.close_write"}                  the client reads end of file; it may still write

The app's return ends the stream. Before ``start`` the request is an ordinary one (its body too) and may be answered as such.
A client that sent no ``Upgrade`` header has to wait for the response's head before it sends stream bytes, as all known ones do.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

Message = dict[str, Any]

HIGH_WATER = 1 << 20  # bytes waiting for the app, or for the client, before the other side is made to wait
LINGER_S = 5.0  # how long a client may go on writing after its stream ended
GONE_S = 10.0  # how long an app may be busy with what a vanished client sent last; then it is cancelled
CUT_S = 0.3  # how long a client that is cut off may take for what was written to it

_STATUS_LINES = {101: b"HTTP/1.1 101 UPGRADED\r\n", 200: b"HTTP/1.1 200 OK\r\n"}


# How often it is looked whether a client has read the head: each time a little later, about 2 s in all. Then it may have the head
# in one piece with what follows.
_HEAD_PAUSE_S, _HEAD_PATIENCE_S = 0.0003, 0.5


def _unread(transport: asyncio.Transport) -> int:
    """Bytes that the peer has not taken out of a unix socket, by the kernel's accounting; 0 for other sockets."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return 0
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])
    except OSError:
        return 0  # closed


class Hijack:
    """One request that may become a stream: the app's ``receive`` and ``send``, and what the transport tells."""

    def __init__(
        self, transport: asyncio.Transport, flow: FlowControl, cycle: RequestResponseCycle, started: Callable[[Hijack], None]
    ) -> None:
        self.transport = transport
        self.flow = flow
        self.cycle = cycle
        self.active = False
        self.task: asyncio.Task[None] | None = None  # the app's
        self._tell_started = started
        self._head_read = False
        self._parts: list[bytes] = []
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._eof = self._eof_told = False
        self._gone = False
        self._writing = True
        self._linger: asyncio.TimerHandle | None = None
        self._over = False

    # What the transport tells

    def feed(self, data: bytes) -> None:
        if self._over or not data:
            return  # lingering: the stream has ended, the client doesn't know yet
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting > HIGH_WATER:
            self.flow.pause_reading()
        self._arrived.set()

    def feed_eof(self) -> bool:
        """True keeps the transport open for what the app still has to say."""
        self._eof = True
        self._arrived.set()
        return not self._over

    def lost(self) -> None:
        self._gone = True
        self._arrived.set()
        if self._linger is not None:
            self._linger.cancel()
        elif self.active and self.task is not None:
            self._linger = self.task.get_loop().call_later(GONE_S, self.task.cancel)

    @property
    def is_gone(self) -> bool:
        return self._gone

    def when_ended(self, call: Callable[[], object]) -> None:
        """To be called by the app, once or more, while it answers."""
        assert self.task is not None
        self.task.add_done_callback(lambda _task: call())

    def cut_off(self, patience_s: float = 0.0) -> None:
        """End this request and its connection as if the client had left. An answer that has not begun has ``patience_s`` to be given."""
        cycle, task = self.cycle, self.task
        if task is None or task.done() or self._gone:
            return
        loop = task.get_loop()
        if patience_s and not cycle.response_started:
            cycle.keep_alive = False
            loop.call_later(patience_s, self.cut_off)
            return
        if self.active:
            self._over = True
            self._close_write()  # the client reads to the end what was meant for it
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self.transport.close()
        self._gone = True
        self._arrived.set()
        self.flow.resume_writing()
        loop.call_later(CUT_S, self.transport.abort)
        loop.call_later(GONE_S, task.cancel)

    def cut(self) -> None:
        """The server is going down: the app reads ``http.disconnect`` and the client gets what was written so far."""
        self._gone = self._over = True
        self._arrived.set()
        self.transport.close()

    # What the app calls

    async def receive(self) -> Message:
        if not self.active:
            return await self.cycle.receive()  # type: ignore[return-value]
        while True:
            if self._parts:
                data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts.clear()
                self._waiting = 0
                self.flow.resume_reading()
                return {"type": "http.hijack.receive", "data": data}
            if self._gone:
                return {"type": "http.disconnect"}
            if self._eof and not self._eof_told:
                self._eof_told = True
                return {"type": "http.hijack.eof"}
            self._arrived.clear()
            await self._arrived.wait()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.hijack.send":
            if not self._head_read:
                await self._wait_until_head_is_read()
            if self.flow.write_paused:
                await self.flow.drain()
            if self._gone:
                raise ConnectionResetError("the client is gone")
            if self._writing:
                self.transport.write(message["data"])
        elif kind == "http.hijack.start":
            self._start(message)
        elif kind == "http.hijack.close_write":
            self._close_write()
        else:
            if self.transport.is_closing():  # for a request that was none: uvicorn drops what comes after
                self.cycle.disconnected = True
            await self.cycle.send(message)  # type: ignore[arg-type]

    async def _wait_until_head_is_read(self) -> None:
        """docker-py reads the head through a buffer and the stream past it: bytes that came along with the head would be lost.

        A unix socket says what its peer has not read yet (SIOCOUTQ); over TCP there is only the hope of a lone segment.
        """
        self._head_read = True
        pause_s = _HEAD_PAUSE_S
        while not self._gone and pause_s < _HEAD_PATIENCE_S and _unread(self.transport):
            await asyncio.sleep(pause_s)
            pause_s *= 1.3

    def _start(self, message: Message) -> None:
        cycle = self.cycle
        if cycle.response_started or self.active:
            raise RuntimeError("http.hijack.start after the response has begun")
        self.active = True
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.keep_alive = False
        head = [_STATUS_LINES[message["status"]]]
        for name, value in [*cycle.default_headers, *message.get("headers", ())]:
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n")
        self._gone = self._gone or cycle.disconnected
        self._tell_started(self)
        if not self._gone:
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
            self.transport.write(b"".join(head))

    def _close_write(self) -> None:
        if self._writing and not self._gone:
            self._writing = False
            self.transport.write_eof()

    def finish(self, loop: asyncio.AbstractEventLoop) -> None:
        """The app has returned. A close with unread bytes would reset the connection under the last output
        (tcp(7), unix(7)), so the client is told by end of file and its own bytes are read and dropped until it closes."""
        self.cycle.response_complete = True
        if self._gone:
            if self._linger is not None:
                self._linger.cancel()
            return
        self._over = True
        self._parts.clear()
        if self._eof:
            self.transport.close()
            return
        self._close_write()
        self.flow.resume_reading()
        self._linger = loop.call_later(LINGER_S, self.transport.close)
