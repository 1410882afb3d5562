"""A client's socket in asyncio, for big unhurried streams: back pressure by the kernel's own buffer."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Final

LINE_LIMIT: Final = 1 << 20  # of the question: ``import`` brings Dockerfile lines
SEND_BUFFER: Final = 1 << 20
_DROPPED_AT_ONCE: Final = 256 << 10


class Connection:
    """One client. Not for two readers or two writers at a time."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.sock = sock
        self.has_sent = False
        self.early = b""  # what came after the question, before anybody read the stream
        self._loop = asyncio.get_running_loop()

    async def read_line(self) -> bytes:
        """The question, without its newline; b"" when the client went away before it was whole."""
        data = b""
        while b"\n" not in data:
            more = await self._loop.sock_recv(self.sock, 65536)
            if not more or len(data) > LINE_LIMIT:
                return b""
            data += more
        line, _, self.early = data.partition(b"\n")
        return line

    async def receive(self, limit: int) -> bytes:
        """b"" at the client's end of file."""
        if self.early:
            data, self.early = self.early[:limit], self.early[limit:]
            return data
        return await self._loop.sock_recv(self.sock, limit)

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Raises OSError (EPIPE) when the client reads no more."""
        view = memoryview(data)
        self.has_sent = True
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await writable(self._loop, self.sock.fileno())

    async def finish(self) -> None:
        """After the last byte: says so, and takes what the client still sends until it closes too. A close would fail the client's
        next write (EPIPE), and asyncio's transports drop what they have not read when a write fails."""
        self.early = b""
        self.sock.shutdown(socket.SHUT_WR)
        while await self._loop.sock_recv(self.sock, _DROPPED_AT_ONCE):
            pass

    def close(self) -> None:
        self.sock.close()


async def writable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Until write(2) would not block, or would fail."""
    ready = loop.create_future()
    loop.add_writer(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Hangups:
    """Tells when clients are gone for good, also those whom nobody reads from or writes to just now.

    EPOLLHUP of a unix socket means both directions are shut (a half-close is not that), and epoll(7) reports it without being
    asked; a second epoll instance with no other interest waits for it beside whatever the event loop waits for.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], object]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)

    def watch(self, sock: socket.socket, call: Callable[[], object]) -> None:
        self._calls[sock.fileno()] = call
        self._epoll.register(sock.fileno(), 0)

    def forget(self, sock: socket.socket) -> None:
        if self._calls.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def _ready(self) -> None:
        for fd, _event in self._epoll.poll(0):
            self._epoll.unregister(fd)
            if call := self._calls.pop(fd, None):
                call()
