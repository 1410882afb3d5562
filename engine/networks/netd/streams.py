"""TCP connections to a published port by IPv6, carried to the container's address.

Each direction holds one piece at most: who does not read stops who writes. An end of one direction is handed on and the other goes on;
an error ends both. The sockets are watched edge-triggered, so that one that is closed half way wakes nobody again and again.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable
from typing import Final

from engine.networks.netd.share import Share
from engine.runtime.loop import READABLE, Loop, say

PIECE: Final = 128 << 10  # bytes
PIECES_A_TURN: Final = 16
ACCEPTS_A_TURN: Final = 16
FULL_PAUSE_S: Final = 0.1  # before the next look whether there is room for a connection again
KEEPALIVE_S: Final = 60  # a peer that vanished is noticed after ten of these
_EVENTS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close(2) sends RST


class StreamRelay:
    def __init__(self, loop: Loop, listener: socket.socket, target: tuple[str, int], share: Share) -> None:
        self._loop, self._listener, self._target, self._share = loop, listener, target, share
        self._family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._streams: set[Stream] = set()
        self._closed = False
        loop.add(listener.fileno(), READABLE, self._accept)

    @property
    def flows(self) -> int:
        return len(self._streams)

    def close(self) -> None:
        self._closed = True
        self._loop.remove(self._listener.fileno())
        for stream in list(self._streams):
            stream.abort()

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPTS_A_TURN):
            if self._share.is_full():
                self._rest()
                return
            try:
                client, _peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    say(f"a connection waits: {error}")
                    self._rest()
                    return
                continue  # it went away again
            self._begin(client)

    def _rest(self) -> None:
        """Who comes now waits in the backlog."""
        self._loop.remove(self._listener.fileno())
        self._loop.after(FULL_PAUSE_S, self._listen)

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add(self._listener.fileno(), READABLE, self._accept)

    def _begin(self, client: socket.socket) -> None:
        try:
            server = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            client.close()
            return
        result = server.connect_ex(self._target)
        if result not in (0, errno.EINPROGRESS):
            _reset(client)
            server.close()
            return
        self._share.take()
        self._streams.add(Stream(self._loop, client, server, self._ended))

    def _ended(self, stream: Stream) -> None:
        self._share.give_back()
        self._streams.discard(stream)


class _Way:
    """One direction: what was read and not yet written."""

    __slots__ = ("ended", "piece", "sink", "source")

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.piece = memoryview(b"")
        self.ended = False

    def move(self, most: int) -> bool:
        """Until a socket has no more or takes no more: False; True when ``most`` pieces were moved. OSError ends the stream."""
        for _ in range(most):
            if self.ended:
                return False
            try:
                if not self.piece:
                    data = self.source.recv(PIECE)
                    if not data:
                        self.ended = True
                        self.sink.shutdown(socket.SHUT_WR)
                        return False
                    self.piece = memoryview(data)
                self.piece = self.piece[self.sink.send(self.piece) :]
            except BlockingIOError:
                return False
        return True


class Stream:
    __slots__ = ("_client", "_closed", "_connected", "_loop", "_on_end", "_server", "_ways", "_woken")

    def __init__(self, loop: Loop, client: socket.socket, server: socket.socket, on_end: Callable[[Stream], None]) -> None:
        self._loop, self._client, self._server, self._on_end = loop, client, server, on_end
        self._ways = (_Way(client, server), _Way(server, client))
        self._connected = self._closed = self._woken = False
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        loop.add(server.fileno(), _EVENTS, self._server_ready)
        loop.add(client.fileno(), _EVENTS, self._ready)

    def abort(self) -> None:
        """Both sides learn that it did not end well."""
        if not self._closed:
            for sock in (self._client, self._server):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._close()

    def _server_ready(self, events: int) -> None:
        if not self._connected:
            if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.abort()
                return
            if not events & select.EPOLLOUT:
                return
            self._connected = True
        self._ready(events)

    def _ready(self, events: int) -> None:
        if not self._connected:
            if events & select.EPOLLERR:
                self.abort()  # the client gave up
            return
        try:
            more = [way.move(PIECES_A_TURN) for way in self._ways]
        except OSError:
            self.abort()
            return
        if all(way.ended for way in self._ways):
            self._close()
        elif any(more) and not self._woken:  # the others' turn; no edge will wake us for what is there already
            self._woken = True
            self._loop.after(0, self._again)

    def _again(self) -> None:
        self._woken = False
        if not self._closed:
            self._ready(0)

    def _close(self) -> None:
        self._closed = True
        for sock in (self._client, self._server):
            self._loop.remove(sock.fileno())
            sock.close()
        self._on_end(self)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
