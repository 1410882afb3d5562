"""The loop under keeper and logger: peers that are slow, go away or talk nonsense."""

from __future__ import annotations

import gc
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from engine.runtime import protocol
from engine.runtime.loop import QUEUE_LIMIT, Connection, Loop

pytestmark = pytest.mark.guest


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """As foster sees to for keeper and logger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Peers:
    """A connection in a loop, and its other end."""

    def __init__(self) -> None:
        self.loop = Loop()
        ours, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.heard: list[dict[str, Any]] = []
        self.closed = 0
        self.connection = Connection(self.loop, ours, on_message=self._hear, on_close=self._close)

    def _hear(self, _connection: Connection, message: dict[str, Any], fds: list[int]) -> None:
        self.heard.append(message)
        for fd in fds:
            os.close(fd)

    def _close(self, _connection: Connection) -> None:
        self.closed += 1
        self.loop.stop()

    def turn(self) -> None:
        self.loop.after(0, self.loop.stop)
        self.loop.run()


def open_fds() -> int:
    gc.collect()  # of earlier tests
    return len(os.listdir("/proc/self/fd"))


def test_a_peer_that_does_not_read_is_dropped_once_its_queue_is_full() -> None:
    peers = Peers()
    before = open_fds()
    sent = 0
    while not peers.connection.closed:
        peers.connection.send({"number": sent}, (0,))
        sent += 1
        assert sent < 100_000
    assert sent > QUEUE_LIMIT and peers.closed == 1
    assert open_fds() == before - 1  # what waited is closed, too
    peers.other.close()


def test_what_waits_arrives_in_order_with_its_descriptors() -> None:
    peers = Peers()
    peers.connection.limit = 1 << 20
    before = open_fds()
    count = 9000
    for number in range(count):
        peers.connection.send({"number": number}, (0,) if number % 100 == 0 else ())
    peers.other.setblocking(False)
    received = []
    while len(received) < count:
        try:
            answer = protocol.receive(peers.other)
        except BlockingIOError:
            peers.turn()
            continue
        assert answer is not None
        message, fds = answer
        assert len(fds) == (message["number"] % 100 == 0)
        for fd in fds:
            os.close(fd)
        received.append(message["number"])
    assert received == list(range(count))
    peers.turn()
    assert open_fds() == before
    peers.other.close()
    peers.loop.run()
    assert peers.closed == 1


def test_nonsense_and_a_vanished_peer_end_the_connection_and_nothing_else() -> None:
    peers = Peers()
    peers.other.send(b"\xff\xfe")
    peers.loop.run()
    assert (peers.closed, peers.heard) == (1, [])
    peers.connection.send({"to": "nobody"})
    peers = Peers()
    peers.other.close()
    peers.connection.send({"to": "nobody"})
    assert peers.connection.closed and peers.closed == 1


def test_a_handler_that_raises_is_logged_and_the_loop_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    loop, done = Loop(), []

    def fail() -> None:
        raise RuntimeError("on purpose")

    loop.after(0, fail)
    loop.after(0.01, lambda: done.append(True))
    loop.after(0.02, loop.stop)
    loop.run()
    assert done == [True] and "on purpose" in capfd.readouterr().err


def test_an_event_of_a_closed_file_is_not_given_to_the_next_of_its_number() -> None:
    """Both are ready in one round; the first handler closes the second's file and opens another, which gets its number."""
    loop, heard = Loop(), []
    first, second = os.eventfd(1), os.eventfd(1)

    def replace(_events: int) -> None:
        loop.remove(first)
        loop.remove(second)
        os.close(second)
        assert os.eventfd(0) == second
        loop.add(second, 1, lambda _events: heard.append("the new one"))

    loop.add(first, 1, replace)
    loop.add(second, 1, lambda _events: heard.append("the old one"))
    loop.after(0.05, loop.stop)
    loop.run()
    assert heard in ([], ["the old one"])
    for fd in (first, second):
        os.close(fd)
