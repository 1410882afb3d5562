"""Sending a log to a client, to its end or on and on; op ``logs``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from engine.errors import Unsupported
from engine.model.container import ContainerSpec, Status
from engine.model.event import Event, EventKind
from engine.model.log_details import details
from engine.runtime.logs import LAST_WORDS_S, LogReader, LogWatch
from workers.agent.connection import Connection
from workers.agent.watcher import Watcher
from workers.agent.words import integer


class Followers:
    """One inotify instance for all."""

    def __init__(self) -> None:
        self._watch = LogWatch()
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._watch.dispatch)

    @contextmanager
    def waking(self, folder: Path, wake: Callable[[], None]) -> Iterator[None]:
        """FileNotFoundError: the container is gone."""
        number = self._watch.add(folder, wake)
        try:
            yield
        finally:
            self._watch.remove(number, wake)


class Follow:
    """One client's way through one container's log."""

    def __init__(self, watcher: Watcher, followers: Followers, container_id: str, reader: LogReader) -> None:
        self._watcher, self._followers, self._id, self._reader = watcher, followers, container_id, reader
        self._wake = asyncio.Event()
        self._last_words = 0.0  # by then the log of a container that has ended is complete, or its logger is no more
        self._over = False

    def end(self) -> None:
        """Send what there is, then no more."""
        self._over = True
        self._wake.set()

    async def send_all(self, client: Connection) -> None:
        """What there is, and of a container that has just ended also what its logger is still writing."""
        if self.expect_end():
            await self.send(client)
        else:
            await self._send_present(client)

    def expect_end(self) -> bool:
        """Whether the container has ended: then what is not logged soon never will be."""
        ended = self._watcher.engine.records.state(self._id).status in (Status.EXITED, Status.RESTARTING)
        if ended:
            self._last_words = time.monotonic() + LAST_WORDS_S
        return ended

    async def send(self, client: Connection, *, until_ns: int = 0, complete: Callable[[], bool] = lambda: True) -> None:
        """Until the run's output is complete (and ``complete`` agrees that this was the run meant), ``until_ns``, or ``end``."""
        with ExitStack() as stack:
            stack.enter_context(self._followers.waking(self._watcher.engine.config.container(self._id) / "log", self._wake.set))
            stack.enter_context(self._watcher.listening(self._heard, self._id))
            while True:
                self._wake.clear()
                over = self._over
                if await self._send_present(client):
                    self._last_words = self._last_words and time.monotonic() + LAST_WORDS_S
                if over or (self._reader.complete and complete()):
                    return
                left = self._left(until_ns)
                if left is None:
                    await self._wake.wait()
                elif left <= 0:
                    return
                else:
                    await _within(left, self._wake)

    async def _send_present(self, client: Connection) -> bool:
        """Whether there was any."""
        found = False
        while piece := self._reader.read():
            found = True
            await client.send(piece)
            await asyncio.sleep(0)  # a client that reads as fast as we send must not keep the others waiting
        return found

    def _heard(self, event: Event) -> None:
        if event.kind is EventKind.CONTAINER_REMOVED:
            self.end()
        elif event.kind is EventKind.CONTAINER_EXITED:
            self._last_words = time.monotonic() + LAST_WORDS_S
        else:
            self._last_words = 0.0
        self._wake.set()

    def _left(self, until_ns: int) -> float | None:
        ends = [self._last_words - time.monotonic()] if self._last_words else []
        if until_ns:
            ends.append((until_ns - time.time_ns()) / 1e9)
        return min(ends, default=None)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def logs(watcher: Watcher, followers: Followers, client: Connection, words: dict[str, Any]) -> None:
    spec = watcher.engine.spec(words["tenant"], words["id"])
    check_kept(spec)
    until_ns = integer(words, "until_ns", 0)
    reader = LogReader(
        watcher.engine.config.container(spec.id) / "log",
        stdout=bool(words.get("stdout", True)),
        stderr=bool(words.get("stderr", True)),
        tail=integer(words, "tail", -1),
        since_ns=integer(words, "since_ns", 0),
        until_ns=until_ns,
        timestamps=bool(words.get("timestamps")),
        details=details(spec) if words.get("details") else None,
        frames=not spec.tty,
    )
    try:
        follow = Follow(watcher, followers, spec.id, reader)
        await client.send(b'{"ok":{"tty":%s}}\n' % (b"true" if spec.tty else b"false"))
        if words.get("follow"):
            follow.expect_end()
            await follow.send(client, until_ns=until_ns, complete=lambda: not _runs(watcher, spec.id))
        else:
            await follow.send_all(client)
    finally:
        reader.close()


def check_kept(spec: ContainerSpec) -> None:
    """Unsupported, in moby's words, for a container whose output nobody wanted to keep."""
    if spec.log.driver == "none":
        raise Unsupported("configured logging driver does not support reading")


def _runs(watcher: Watcher, container_id: str) -> bool:
    """A later run has begun than the one whose end was read."""
    return watcher.engine.records.state(container_id).has_process
