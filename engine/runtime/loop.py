"""One thread, one epoll(7): descriptors, timers, and the serving side of engine.runtime.protocol. For keeper and logger.

asyncio would do, at 8 MiB a process; these two are resident on every host, so they carry what they use and no more.
"""

from __future__ import annotations

import heapq
import os
import select
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from engine import errors
from engine.runtime import protocol

QUEUE_LIMIT: Final = 4096  # messages waiting for a peer that does not read, before it is dropped
SEND_BUFFER: Final = 4 << 20  # bytes: a burst of exits fits into the socket of a watcher that is asleep

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT


def say(*words: object) -> None:
    """One line in this part's own log. When the disk takes no more there is none, and the part goes on: not by ``print``, which
    would raise, and keep the line and raise again at exit."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    line = " ".join((f"{stamp}.{int(now * 1000) % 1000:03d}Z", *map(str, words)))
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode(errors="backslashreplace"))


class Loop:
    """Level-triggered. A handler that raises is logged, and the loop goes on: nothing else may suffer from it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self._stopped = False
        self._removed: set[int] = set()  # in this round

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """``handler`` gets the events that are ready (EPOLLHUP and EPOLLERR too). The fd stays the caller's."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Before the fd is closed; twice is fine."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._removed.add(fd)

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Once. There is no cancel: a callback looks whether it is still wanted."""
        self._timer_number += 1
        heapq.heappush(self._timers, (time.monotonic() + delay_s, self._timer_number, callback))

    def stop(self) -> None:
        """``run`` returns after this round."""
        self._stopped = True

    def run(self, after_round: Callable[[], None] | None = None) -> None:
        """Until ``stop``; may be called again after that."""
        self._stopped = False
        while not self._stopped:
            ready = self._epoll.poll(self._timeout())
            self._removed.clear()
            for fd, events in ready:
                handler = self._handlers.get(fd)
                # what an earlier handler of this round removed may have its number given to another file already
                if handler is not None and fd not in self._removed:
                    self._guard(handler, events)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._guard(heapq.heappop(self._timers)[2])
            if after_round is not None:
                after_round()

    def _timeout(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _guard(self, callback: Callable[..., None], *words: object) -> None:
        try:
            callback(*words)
        except Exception:
            say(f"handler failed: {traceback.format_exc()}")


class Connection:
    """One peer. What cannot be sent at once waits in order; a peer that lets ``limit`` messages wait is dropped."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        on_message: Callable[[Connection, dict[str, Any], list[int]], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        """``on_message`` owns the fds it gets. ``on_close`` is called once, whoever closes."""
        self._loop, self._sock = loop, sock
        self._on_message, self._on_close = on_message, on_close
        self._waiting: deque[tuple[dict[str, Any], tuple[int, ...]]] = deque()
        self.closed = False
        self.limit = QUEUE_LIMIT
        sock.setblocking(False)
        enlarge_send_buffer(sock)
        loop.add(sock.fileno(), READABLE, self._ready)

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Never blocks, never raises for a peer that went away. The fds stay the caller's."""
        if self.closed:
            return
        if not self._waiting:
            try:
                protocol.send(self._sock, message, fds)
                return
            except BlockingIOError:
                self._loop.change(self._sock.fileno(), READABLE | WRITABLE)
            except OSError:
                self.close()
                return
        if len(self._waiting) >= self.limit:
            say("a peer that does not read was dropped")
            self.close()
            return
        self._waiting.append((message, tuple(os.dup(fd) for fd in fds)))

    def fileno(self) -> int:
        """For a child that goes on with it."""
        return self._sock.fileno()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        for _message, fds in self._waiting:
            close_all(fds)
        self._waiting.clear()
        self._on_close(self)

    def _ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if not self.closed and events & ~WRITABLE:
            self._read()

    def _flush(self) -> None:
        try:
            while self._waiting:
                message, fds = self._waiting[0]
                protocol.send(self._sock, message, fds)
                self._waiting.popleft()
                close_all(fds)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._loop.change(self._sock.fileno(), READABLE)

    def _read(self) -> None:
        try:
            received = protocol.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, ValueError):  # reset, or not JSON
            received = None
        if received is None:
            self.close()
        else:
            self._on_message(self, *received)


class Server:
    """Accepts root's connections on a listening socket and answers each message with what ``handle`` returns or raises.

    ``handle(connection, message, fds)`` owns the fds; it returns the words of ``{"ok": …}``, or None when it answers later.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        *,
        handle: Callable[[Connection, dict[str, Any], list[int]], dict[str, Any] | None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self._loop, self._listener = loop, listener
        self._handle, self._on_close = handle, on_close
        self.connections: set[Connection] = set()
        listener.setblocking(False)
        loop.add(listener.fileno(), READABLE, self._accept)

    def close(self) -> None:
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.close()

    def _accept(self, _events: int) -> None:
        try:
            sock, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if protocol.peer_uid(sock) != 0:
            sock.close()
            return
        self.connections.add(Connection(self._loop, sock, on_message=self._answer, on_close=self._closed))

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._on_close(connection)

    def _answer(self, connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        try:
            if message.get("v") != protocol.VERSION:
                close_all(fds)
                raise errors.Unsupported(f"this part speaks version {protocol.VERSION} of the protocol")
            words = self._handle(connection, message, fds)
        except errors.EngineError as error:
            connection.send({"error": error.to_json()})
        except Exception as error:
            say(f"{message.get('op')} failed: {traceback.format_exc()}")
            connection.send({"error": errors.Internal(f"{message.get('op')}: {error!r}").to_json()})
        else:
            if words is not None:
                connection.send({"ok": words})


def close_all(fds: tuple[int, ...] | list[int]) -> None:
    for fd in fds:
        os.close(fd)


def enlarge_send_buffer(sock: socket.socket) -> None:
    """SO_SNDBUFFORCE needs CAP_NET_ADMIN; without it the system's own maximum holds (socket(7))."""
    so_sndbufforce = 32  # asm-generic/socket.h; the socket module does not name it
    try:
        sock.setsockopt(socket.SOL_SOCKET, so_sndbufforce, SEND_BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
