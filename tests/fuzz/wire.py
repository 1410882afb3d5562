"""A request as the bytes that go over the wire, so that what was found can be sent again to the byte; and what came back."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

HANG_S: Final = 30.0
LISTEN_S: Final = 0.2  # to a stream that goes on, after its head
MOST: Final = 4 << 20  # bytes of an answer that are read
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass(frozen=True, slots=True)
class Shot:
    """``label`` is what it is counted under. Of what ``is_cut`` no answer is due: the server may wait for the rest of it.

    A ``stream`` goes on after its head. What ``may_wait`` was asked to (a stop with its timeout), so its silence is no hang.
    """

    label: str
    wire: bytes
    is_cut: bool = False
    stream: bool = False
    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` 0: the connection ended without one. ``seconds`` to the end of the answer, or of listening."""

    status: int
    data: bytes
    seconds: float
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """``unix:///run/…/docker.sock`` or ``http://127.0.0.1:8000``. ``head``: lines that say who asks, each with its CRLF."""

    address: str
    head: bytes = b""

    def connect(self, timeout_s: float) -> socket.socket:
        parts = urlsplit(self.address)
        if parts.scheme == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout_s)
            sock.connect(str(Path(parts.path)))
            return sock
        return socket.create_connection((parts.hostname, parts.port or 80), timeout_s)

    def send(self, shot: Shot, *, hang_s: float = HANG_S) -> Answer:
        """A connection of its own. OSError when there is none to be had: the instance is down."""
        began = time.monotonic()
        with self.connect(hang_s) as sock:
            try:
                sock.sendall(shot.wire)
                if shot.is_cut:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before its end was sent, as is its right: the answer is there to be read
            patience_s = LISTEN_S if shot.is_cut else 5.0 if shot.may_wait else hang_s
            data, timed_out = _read(sock, began + patience_s, listens=shot.stream)
        found = _STATUS.match(data)
        hangs = timed_out and not (shot.is_cut or shot.may_wait or (found and shot.stream))
        return Answer(int(found[1]) if found else 0, data, time.monotonic() - began, hangs)


def request(method: str, target: str, body: bytes | None, *lines: bytes, door: Door, kind: str = "application/json") -> bytes:
    """One whole request, after which the connection ends. ``target`` goes as it is: what is wrong with it shall be."""
    head = [f"{method} {target} HTTP/1.1".encode("utf-8", "surrogatepass"), b"Host: localhost", b"Connection: close", *lines]
    if body is not None:
        head += [b"Content-Type: " + kind.encode(), b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n" + door.head + b"\r\n" + (body or b"")


def _read(sock: socket.socket, deadline: float, *, listens: bool) -> tuple[bytes, bool]:
    """Up to the end of the answer; (bytes, whether time ran out). With ``listens`` a stream is left soon after its head."""
    data = bytearray()
    while len(data) < MOST:
        if listens and b"\r\n\r\n" in data:
            deadline, listens = min(deadline, time.monotonic() + LISTEN_S), False
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            more = sock.recv(1 << 16)
        except TimeoutError:
            return bytes(data), True
        except OSError:
            break  # reset: a refusal whose sender did not want the rest of the request
        if not more:
            break
        data += more
    return bytes(data), False
