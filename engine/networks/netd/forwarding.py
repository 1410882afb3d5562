"""Questions that nobody here can answer: to the container's own servers from inside its namespace, else to the host's from the host.

Each try has a socket of its own: a source port and an id that a stranger would have to guess, connected, so that the kernel lets in
the server's packets alone. A server that says nothing, refuses or fails is followed by the next; when all did, the last one's answer
or SERVFAIL is what the asker gets. What came by UDP is asked by UDP, with its EDNS and to be told of truncation; by TCP, by TCP.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from engine.networks import resolve
from engine.networks.netd import dns
from engine.runtime.loop import READABLE, WRITABLE, Loop, say

PORT: Final = 53
PATIENCE_S: Final = 2.0  # for one server; a libc asks again after 5 s
PATIENCE_STEP_S: Final = 0.2
WAITING_LIMIT: Final = 64  # questions of one container under way
LOOK_S: Final = 1.0
_RECEIVE: Final = 65535
_NEXT: Final = (dns.SERVFAIL, dns.REFUSED, dns.NOTIMP)  # of a server that cannot help: another may
Make = Callable[[Callable[[], socket.socket]], socket.socket]  # calls in the network namespace where the servers are asked


class HostServers:
    """The nameservers of the host's resolv.conf, read again when it was changed. A loopback's are fine: it is the host who asks."""

    def __init__(self) -> None:
        self._read_from: object = None
        self._looked_at = -LOOK_S
        self._servers: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            present = [_stamp(path) for path in (resolve.RESOLV_CONF, resolve.SYSTEMD_RESOLV_CONF)]
            if present != self._read_from:
                self._read_from, self._servers = present, _nameservers(resolve.host_resolv_conf())
        return self._servers


class Patience:
    """Whose server has had its time. What is over is forgotten at once: a timer each would remember thousands for seconds."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._due: dict[Forward, float] = {}  # the earliest first: all have the same time
        self._looks = False

    def begin(self, forward: Forward) -> None:
        if not self._looks:
            self._looks = True
            self._loop.after(PATIENCE_STEP_S, self._look)
        self._due.pop(forward, None)
        self._due[forward] = time.monotonic() + PATIENCE_S

    def end(self, forward: Forward) -> None:
        self._due.pop(forward, None)

    def _look(self) -> None:
        now = time.monotonic()
        for forward in [forward for forward, due in self._due.items() if due <= now]:
            forward.give_up()
        self._looks = bool(self._due)
        if self._looks:
            self._loop.after(PATIENCE_STEP_S, self._look)


class Forward:
    """One question on its way. ``done`` is called once, with the answer or None, unless it is cancelled."""

    __slots__ = (
        "_attempt", "_done", "_id", "_last", "_loop", "_make", "_patience", "_question", "_received", "_servers", "_sock", "_tcp",
        "_unsent",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        patience: Patience,
        question: dns.Question,
        servers: Sequence[str],
        *,
        tcp: bool,
        make: Make,
        done: Callable[[Forward, bytes | None], None],
    ) -> None:
        self._loop, self._patience, self._make, self._done = loop, patience, make, done
        self._question, self._servers, self._tcp = question, servers, tcp
        self._attempt, self._id = -1, 0
        self._sock: socket.socket | None = None
        self._last: bytes | None = None
        self._received = self._unsent = b""

    def start(self) -> None:
        self._next()

    def cancel(self) -> None:
        self._close()

    def give_up(self) -> None:
        """On the server that is being asked."""
        self._next()

    def _next(self) -> None:
        self._close()
        while self._attempt + 1 < len(self._servers):
            self._attempt += 1
            try:
                self._ask(self._servers[self._attempt])
            except OSError:
                self._close()
                continue
            self._patience.begin(self)
            return
        self._end(self._last)

    def _ask(self, server: str) -> None:
        self._id, self._received = int.from_bytes(os.urandom(2), "big"), b""
        query = dns.with_id(self._question.raw, self._id)
        self._sock = self._make(partial(_connect, server, self._tcp))
        if self._tcp:
            self._unsent = len(query).to_bytes(2, "big") + query
            self._loop.add(self._sock.fileno(), WRITABLE, self._write)
        else:
            self._sock.send(query)
            self._loop.add(self._sock.fileno(), READABLE, self._receive)

    def _receive(self, _events: int) -> None:
        assert self._sock is not None
        try:
            reply = self._sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._next()
            return
        self._take(reply)

    def _write(self, _events: int) -> None:
        assert self._sock is not None
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not self._unsent:
            self._loop.remove(self._sock.fileno())
            self._loop.add(self._sock.fileno(), READABLE, self._read)

    def _read(self, _events: int) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        size = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= 2 + size > 2:
            if not self._take(self._received[2 : 2 + size]):
                self._next()
        elif not data:
            self._next()

    def _take(self, reply: bytes) -> bool:
        """Whether it was an answer to our question."""
        if not dns.answers(reply, self._question.text, self._id):
            return False
        self._last = reply
        if dns.rcode(reply) in _NEXT:
            self._next()
        else:
            self._end(reply)
        return True

    def _end(self, reply: bytes | None) -> None:
        self._close()
        self._done(self, None if reply is None else dns.with_id(reply, self._question.id))

    def _close(self) -> None:
        self._patience.end(self)
        if self._sock is not None:
            self._loop.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None


def addresses(servers: Sequence[str]) -> tuple[str, ...]:
    """Those that are addresses: a name would have to be looked up, and nobody waits for that here."""
    return tuple(server for server in servers if _is_address(server))


def _connect(server: str, tcp: bool) -> socket.socket:
    """Does not wait."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    sock = socket.socket(family, (socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.connect((server, PORT))
    except BlockingIOError:
        pass  # EINPROGRESS
    except BaseException:
        sock.close()
        raise
    return sock


def _nameservers(text: str) -> tuple[str, ...]:
    rows = (row.split() for row in text.splitlines())
    found = addresses([row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"])
    if not found:
        say("the host's resolv.conf names no server: names of the world are not found")
    return found


def _is_address(server: str) -> bool:
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return False
    return True


def _stamp(path: os.PathLike[str]) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
