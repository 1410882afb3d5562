"""Builds that go on when whoever began them goes: the panel's, which may be restarted in their midst.

<engine>/builds/said/<tenant>/<build>     every line of one, kept until its asker says that it has it all (``build_end``)

Such a build speaks to a socket pair of ours in place of its client's, so to the yard we are the client: letting go of it cancels it, as
ever, and with this process it ends. Its client, and any later one that names it (``build_follow``), are readers of the file.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from engine import errors
from engine.config import EngineConfig
from engine.model.build import is_build_id
from engine.model.tenant import check_tenant_name
from workers.agent.connection import Connection

MAX_SAID: Final = 16 << 20  # bytes of one; beyond them only what a build is known by is kept
FORGOTTEN_S: Final = 7 * 86_400  # after that nobody comes for it any more
_KNOWN_BY: Final = (b'"built"', b'"errorDetail"', b'"images"')
_PIECE: Final = 256 << 10
_OK: Final = b'{"ok":{}}\n'

Work = Callable[[Connection], Awaitable[None]]


class DetachedBuilds:
    """``ops`` for the agent's table."""

    def __init__(self, config: EngineConfig) -> None:
        self._folder = config.builds / "said"
        self._running: dict[Path, _Running] = {}
        self.ops = {"build_follow": self._follow, "build_end": self._end}

    async def begin(self, client: Connection, tenant: str, build_id: str, work: Work) -> None:
        """Takes the client's context in and tells it all that is said. Who goes before the context is whole takes the build along."""
        path = self._path({"tenant": tenant, "id": build_id})
        if path in self._running:
            raise errors.AlreadyExists(f"build {build_id} is running already")
        self._clear_old()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        running = self._running[path] = _Running(path, work)
        running.task.add_done_callback(lambda _task: self._running.pop(path, None))
        try:
            await client.send(_OK)
            await running.take_in(client)
        except BaseException:
            running.cancel()
            raise
        await _tell(client, path, running)

    async def _follow(self, client: Connection, words: dict[str, Any]) -> None:
        path = self._path(words)
        if not path.exists():
            raise errors.NotFound(f"No such build: {words['id']}")
        await client.send(_OK)
        await _tell(client, path, self._running.get(path))

    async def _end(self, client: Connection, words: dict[str, Any]) -> None:
        """Nobody wants it any more, or anything of it again."""
        path = self._path(words)
        if running := self._running.get(path):
            running.cancel()
        path.unlink(missing_ok=True)
        await client.send(_OK)

    def _path(self, words: dict[str, Any]) -> Path:
        check_tenant_name(words["tenant"])
        if not is_build_id(words["id"]):
            raise errors.InvalidArgument(f"invalid build id {words['id']!r}: 32 hex digits are needed")
        return self._folder / str(words["tenant"]) / str(words["id"])

    def _clear_old(self) -> None:
        """Of builds whose panel never came back."""
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):
                if path not in self._running and time.time() - path.stat().st_mtime > FORGOTTEN_S:
                    path.unlink()


class _Running:
    def __init__(self, path: Path, work: Work) -> None:
        ours, theirs = socket.socketpair()
        self._client = Connection(ours)
        self._said = path.open("xb", buffering=0)
        self._size, self._rest = 0, b""
        self._job = asyncio.ensure_future(_closing(Connection(theirs), work))
        self.news = asyncio.Event()  # set, and replaced, whenever there is more
        self.task = asyncio.ensure_future(self._listen())

    def cancel(self) -> None:
        """Both ways are shut, which is what the yard takes for a client that has gone."""
        with suppress(OSError):
            self._client.sock.shutdown(socket.SHUT_RDWR)
        self._job.cancel()  # it may still wait for its turn

    async def take_in(self, client: Connection) -> None:
        """The context. Who has heard why it is refused reads no more of it."""
        listens = True
        while data := await client.receive(_PIECE):
            if listens:
                try:
                    await self._client.send(data)
                except OSError:
                    listens = False
        if _has_gone(client.sock):
            raise ConnectionAbortedError
        with suppress(OSError):
            self._client.sock.shutdown(socket.SHUT_WR)

    async def _listen(self) -> None:
        try:
            with self._said, closing(self._client):
                while data := await self._client.receive(_PIECE):
                    self._keep(data)
                    self._wake()
                await asyncio.gather(self._job, return_exceptions=True)
        finally:
            self._wake()

    def _keep(self, data: bytes) -> None:
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if self._size > MAX_SAID:
            whole = b"\n".join(line for line in whole.split(b"\n") if any(word in line for word in _KNOWN_BY))
        if whole:
            self._said.write(whole + newline)
            self._size += len(whole)

    def _wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


async def _closing(client: Connection, work: Work) -> None:
    with closing(client):
        await work(client)


async def _tell(client: Connection, path: Path, running: _Running | None) -> None:
    """All of it, to its end."""
    with path.open("rb", buffering=0) as file:
        while True:
            news, is_over = running.news if running else None, running is None or running.task.done()
            if data := file.read(_PIECE):
                await client.send(data)
            elif is_over or news is None:
                return
            else:
                await news.wait()


def _has_gone(sock: socket.socket) -> bool:
    """For good: a half-close, which ends a context, is not that."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
