"""A container that asks by TCP: messages with their length in front (RFC 1035 4.2.2), any number, answers in any order (RFC 7766)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from engine.runtime.loop import READABLE, WRITABLE, Loop

UNSENT_LIMIT: Final = 256 << 10  # bytes of answers that it does not read
_RECEIVE: Final = 16 << 10


class Asker:
    def __init__(
        self, loop: Loop, sock: socket.socket, asked: Callable[[bytes, Callable[[bytes], None]], None], closed: Callable[[Asker], None]
    ) -> None:
        self._loop, self._sock, self._asked, self._on_close = loop, sock, asked, closed
        self._received, self._unsent = b"", b""
        self.active = True  # since its owner has looked last
        self.closed = self._paused = False
        sock.setblocking(False)
        self._listen()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove(self._sock.fileno())
            self._sock.close()
            self._received = self._unsent = b""
            self._on_close(self)

    def pause(self) -> None:
        """Nothing is read from it, nor from what it has said already."""
        if not self._paused:
            self._paused = True
            self._loop.remove(self._sock.fileno())

    def go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._listen()
            self._loop.after(0, self._take)

    def _listen(self) -> None:
        """What is unsent is tried first: it is woken for that at once, if there is room."""
        self._loop.add(self._sock.fileno(), READABLE | WRITABLE if self._unsent else READABLE, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if not self.closed and events & ~WRITABLE:
            self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.active = True
        self._received += data
        self._take()

    def _take(self) -> None:
        while not self.closed and not self._paused and len(self._received) >= 2:
            size = int.from_bytes(self._received[:2], "big")
            if len(self._received) < 2 + size:
                return
            query, self._received = self._received[2 : 2 + size], self._received[2 + size :]
            self._asked(query, self._send)

    def _send(self, reply: bytes) -> None:
        if self.closed:
            return
        waiting = bool(self._unsent)
        self._unsent += len(reply).to_bytes(2, "big") + reply
        if len(self._unsent) > UNSENT_LIMIT:
            self.close()
        elif not waiting:
            self._flush()
            if self._unsent and not self.closed and not self._paused:
                self._loop.change(self._sock.fileno(), READABLE | WRITABLE)

    def _flush(self) -> None:
        self.active = True
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._unsent and not self._paused:
            self._loop.change(self._sock.fileno(), READABLE)
