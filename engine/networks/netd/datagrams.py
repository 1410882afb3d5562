"""UDP datagrams to a published port by IPv6, carried to the container's address and back: a flow for each sender.

A flow has a socket of its own towards the container, so that the answers find their way, and ends when nothing came by it for a while.
When there are as many as may be, the one that was silent longest makes room. What finds a full buffer is lost, as datagrams are.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import OrderedDict
from functools import partial
from typing import Any, Final

from engine.networks.netd.share import Share
from engine.runtime.loop import READABLE, Loop

IDLE_S: Final = 90.0  # docker-proxy's
LOOK_S: Final = 10.0
TURN: Final = 32  # datagrams before the others' turn
_LARGEST: Final = 65535
_ANCILLARY: Final = socket.CMSG_SPACE(20)  # struct in6_pktinfo, ipv6(7)
Peer = Any  # (address, port, flow, scope)


class DatagramRelay:
    def __init__(self, loop: Loop, listener: socket.socket, target: tuple[str, int], share: Share) -> None:
        self._loop, self._listener, self._target, self._share = loop, listener, target, share
        self._family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._flows: OrderedDict[Peer, _Flow] = OrderedDict()  # the longest silent first
        self._closed = False
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)  # the answer comes from the address that was asked
        loop.add(listener.fileno(), READABLE, self._receive)
        loop.after(LOOK_S, self._look)

    @property
    def flows(self) -> int:
        return len(self._flows)

    def close(self) -> None:
        self._closed = True
        self._loop.remove(self._listener.fileno())
        for peer in list(self._flows):
            self._end(peer)

    def _receive(self, _events: int) -> None:
        for _ in range(TURN):
            try:
                data, ancillary, _flags, peer = self._listener.recvmsg(_LARGEST, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:  # of an answer that could not be delivered
                continue
            flow = self._flow(peer)
            if flow is not None:
                flow.touch(_local(ancillary))
                _send(flow.sock, data)

    def _flow(self, peer: Peer) -> _Flow | None:
        flow = self._flows.get(peer)
        if flow is not None:
            self._flows.move_to_end(peer)
            return flow
        if self._share.is_full():
            if not self._flows:
                return None  # its other ports have them all
            self._end(next(iter(self._flows)))
        try:
            sock = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError:
            return None
        try:
            sock.connect(self._target)
        except OSError:
            sock.close()
            return None
        self._share.take()
        flow = self._flows[peer] = _Flow(sock)
        self._loop.add(sock.fileno(), READABLE, partial(self._answer, peer, flow))
        return flow

    def _answer(self, peer: Peer, flow: _Flow, _events: int) -> None:
        for _ in range(TURN):
            try:
                data = flow.sock.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ECONNREFUSED:
                    self._end(peer)
                    return
                continue  # nobody listens there, yet
            self._flows.move_to_end(peer)
            flow.touch(flow.local)
            try:
                self._listener.sendmsg([data], flow.local, 0, peer)
            except OSError:
                pass

    def _look(self) -> None:
        if self._closed:
            return
        latest = time.monotonic() - IDLE_S
        while self._flows and (peer := next(iter(self._flows))) is not None and self._flows[peer].active_at < latest:
            self._end(peer)
        self._loop.after(LOOK_S, self._look)

    def _end(self, peer: Peer) -> None:
        flow = self._flows.pop(peer)
        self._share.give_back()
        self._loop.remove(flow.sock.fileno())
        flow.sock.close()


class _Flow:
    __slots__ = ("active_at", "local", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.touch([])

    def touch(self, local: list[tuple[int, int, bytes]]) -> None:
        self.active_at, self.local = time.monotonic(), local


def _local(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The address that a datagram came to, as sendmsg(2) takes it."""
    return [item for item in ancillary if item[:2] == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)]


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.send(data)
    except OSError:
        pass  # its buffer is full, or nobody listened a moment ago
