"""One container's resolver: the sockets at 127.0.0.11 in its network namespace, and what is answered by them."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from engine.kernel import port_shift
from engine.kernel.netns import Opener
from engine.networks.names import Names
from engine.networks.netd import dns, forwarding
from engine.networks.netd.directory import Directory, View
from engine.networks.netd.forwarding import Forward, HostServers, Patience
from engine.networks.netd.tcp import Asker
from engine.runtime.loop import READABLE, Loop, say

ADDRESS: Final = "127.0.0.11"  # moby's
PORT: Final = 53
TURN: Final = 8  # datagrams of one container before the others' turn
RATE: Final = 4000  # questions a second, of one container that goes on and on; what is more waits in its own socket, which is small
BURST: Final = 4000
ASKERS_LIMIT: Final = 32  # TCP connections; the oldest goes
IDLE_S: Final = 10.0  # of one that says nothing
NO_ROOM_S: Final = 0.1
TCP_SIZE: Final = 65535
_DATAGRAM: Final = 4096
_IP_FREEBIND: Final = 15  # linux/in.h


@dataclass(frozen=True, slots=True)
class Common:
    """What all resolvers share."""

    loop: Loop
    opener: Opener
    directory: Directory
    host_servers: HostServers
    patience: Patience


class Resolver:
    def __init__(self, common: Common, netns: int, names: Names) -> None:
        """``netns`` becomes ours, also when this raises OSError."""
        self._loop, self._opener, self._directory = common.loop, common.opener, common.directory
        self._host_servers, self._patience, self._netns = common.host_servers, common.patience, netns
        self.closed = self._rests = self._looks = False
        self._forwards: set[Forward] = set()
        self._askers: deque[Asker] = deque()
        self._allowed, self._counted_at = float(BURST), time.monotonic()
        self.update(names)
        try:
            self._udp, self._tcp = self._opener.make(netns, _sockets)
        except BaseException:
            os.close(netns)
            raise
        self._listen()

    @property
    def waiting(self) -> int:
        return len(self._forwards)

    def is_in(self, netns: int) -> bool:
        return os.path.samestat(os.fstat(netns), os.fstat(self._netns))

    def update(self, names: Names) -> None:
        self._names, self._view = names, View.of(self._directory, names)
        self._own_servers = forwarding.addresses(names.servers)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for forward in self._forwards:
            forward.cancel()
        self._forwards.clear()
        for asker in list(self._askers):
            asker.close()
        for sock in (self._udp, self._tcp):
            self._loop.remove(sock.fileno())
            sock.close()
        os.close(self._netns)

    # -- questions -------------------------------------------------------------------------------

    def answer(self, query: bytes, limit: int, send: Callable[[bytes], None], *, tcp: bool) -> None:
        """``send`` gets the answer, now or later or, for what is no question, never."""
        try:
            question = dns.read(query)
        except dns.Malformed as error:
            if error.answer:
                send(error.answer)
            return
        if not tcp:
            limit = question.udp_size
        found = self._answer(question, limit)
        if found is not None:
            send(found)
        elif not self._names.forward:
            send(dns.failure(question, dns.SERVFAIL))  # as moby says it: NXDOMAIN would claim to know
        elif len(self._forwards) >= forwarding.WAITING_LIMIT:
            send(dns.failure(question, dns.REFUSED))
        else:
            self._forward(question, limit, send, tcp)

    def _answer(self, question: dns.Question, limit: int) -> bytes | None:
        """None when it is not for us to know."""
        if question.class_ != dns.IN:
            return None
        if question.type == dns.PTR:
            address = dns.reverse(question.name)
            called = address and self._view.called(address)
            if called:
                return dns.pointer(question, called)
        found = self._view.find(question.name, turn=question.type == dns.A)  # who asks for both gets both in the same order
        if found is None:
            return None
        return dns.addresses(question, found, limit) if question.type in (dns.A, dns.AAAA) else dns.empty(question)

    def _forward(self, question: dns.Question, limit: int, send: Callable[[bytes], None], tcp: bool) -> None:
        def done(forward: Forward, reply: bytes | None) -> None:
            self._forwards.discard(forward)
            if reply is None:
                reply = dns.failure(question, dns.SERVFAIL)
            send(reply if len(reply) <= limit else dns.truncated(question))

        own = self._own_servers
        make = partial(self._opener.make, self._netns) if own else _here
        forward = Forward(self._loop, self._patience, question, own or self._host_servers(), tcp=tcp, make=make, done=done)
        self._forwards.add(forward)
        forward.start()

    # -- UDP -------------------------------------------------------------------------------------

    def _receive(self, _events: int) -> None:
        count = 0
        while count < TURN:
            count += 1
            try:
                query, peer = self._udp.recvfrom(_DATAGRAM)
            except BlockingIOError:
                break
            except OSError:  # of an earlier answer that nobody wanted any more
                continue
            self.answer(query, 0, partial(self._send, peer), tcp=False)
        self._count(count)

    def _send(self, peer: tuple[str, int], reply: bytes) -> None:
        if not self.closed:
            try:
                self._udp.sendto(reply, peer)
            except OSError:
                pass  # it does not read: it asks again

    def _count(self, questions: int) -> None:
        """Whoever asks without end rests a while: this process' time is not counted as its tenant's."""
        now = time.monotonic()
        self._allowed = min(float(BURST), self._allowed + (now - self._counted_at) * RATE) - questions
        self._counted_at = now
        if self._allowed < 0:
            self._rest(-self._allowed / RATE + 0.01)

    def _rest(self, pause_s: float) -> None:
        if not self._rests and not self.closed:
            self._rests = True
            for sock in (self._udp, self._tcp):
                self._loop.remove(sock.fileno())
            for asker in self._askers:
                asker.pause()
            self._loop.after(pause_s, self._listen)

    def _listen(self) -> None:
        if self.closed:
            return
        self._rests = False
        self._loop.add(self._udp.fileno(), READABLE, self._receive)
        self._loop.add(self._tcp.fileno(), READABLE, self._accept)
        for asker in self._askers:
            asker.go_on()

    # -- TCP -------------------------------------------------------------------------------------

    def _accept(self, _events: int) -> None:
        try:
            sock, _peer = self._tcp.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors: it would be woken again at once
            self._rest(NO_ROOM_S)
            return
        if len(self._askers) >= ASKERS_LIMIT:
            self._askers[0].close()
        self._askers.append(Asker(self._loop, sock, self._asked, self._askers.remove))
        self._count(1)
        if not self._looks:
            self._looks = True
            self._loop.after(IDLE_S, self._look)

    def _look(self) -> None:
        """Who has said nothing since the last look goes."""
        for asker in list(self._askers):
            if not asker.active and not self._rests:
                asker.close()
            asker.active = False
        self._looks = bool(self._askers)
        if self._looks:
            self._loop.after(IDLE_S, self._look)

    def _asked(self, query: bytes, send: Callable[[bytes], None]) -> None:
        self._count(1)
        self.answer(query, TCP_SIZE, send, tcp=True)


def _here(make: Callable[[], socket.socket]) -> socket.socket:
    return make()


def _sockets() -> tuple[socket.socket, socket.socket]:
    """Called in the container's namespace. At ports of their own, to which port 53 is shifted: a container may have a name server itself,
    which listens on all addresses. Where the kernel cannot do that, at port 53."""
    udp, tcp = _pair(0, 0)
    try:
        udp, tcp = _shifted(udp, tcp)
    except OSError as error:
        say(f"no rules in a container's namespace ({error}): its resolver takes port {PORT}")
        _close(udp, tcp)
        udp, tcp = _pair(PORT, PORT)
    tcp.listen(ASKERS_LIMIT)
    return udp, tcp


def _shifted(udp: socket.socket, tcp: socket.socket) -> tuple[socket.socket, socket.socket]:
    """With what port 53 leads to. Where an earlier netd's rules are, that is what it had."""
    try:
        port_shift.shift(ADDRESS, PORT, udp=_port(udp), tcp=_port(tcp))
        return udp, tcp
    except FileExistsError:
        earlier = port_shift.shifted()
    if earlier is not None:
        with suppress(OSError):
            pair = _pair(*earlier)
            _close(udp, tcp)
            return pair
    port_shift.replace(ADDRESS, PORT, udp=_port(udp), tcp=_port(tcp))
    return udp, tcp


def _pair(udp: int, tcp: int) -> tuple[socket.socket, socket.socket]:
    first = _bound(socket.SOCK_DGRAM, udp)
    try:
        return first, _bound(socket.SOCK_STREAM, tcp)
    except BaseException:
        first.close()
        raise


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _close(*socks: socket.socket) -> None:
    for sock in socks:
        sock.close()


def _bound(kind: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)  # whether or not its loopback is up yet
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ADDRESS, port))
    except BaseException:
        sock.close()
        raise
    return sock
