"""Ops on a container's files. Porter's child (engine.files.porter) speaks to the client itself; we only see it off and wait."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from engine import errors
from engine.engine import Engine
from engine.files.desk import Desk
from engine.files.files import Job, Side, commit_from
from workers.agent.connection import Connection
from workers.agent.words import text

AT_ONCE: Final = 16  # of one tenant; the next ones wait: each is a process
LOOKS_AT_ONCE: Final = 4  # of one tenant for a user: short, so they don't wait behind its copies
COPY_WAITS_S: Final = 20.0  # for another copy into the same container
POLL_S: Final = 0.02
VOLUME_OPS: Final = ("stat", "get", "export", "list", "remove", "put")

Op = Callable[[Connection, dict[str, Any]], Any]


class FileOps:
    """``ops`` for the agent's table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._files = engine.files
        self._desk = Desk(engine.config)
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._looks: dict[str, asyncio.Semaphore] = {}
        self.ops: dict[str, Op] = {
            "archive_stat": self._stat,
            "archive_get": self._get,
            "archive_put": self._put,
            "export": self._export,
            "user": self._user,
            "changes": self._changes,
            "diff": self._diff,
            "diff_text": self._text,
            "commit": self._commit,
            "volume_files": self._volume,
        }

    async def _stat(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(client, words, lambda: self._files.stat(words["tenant"], words["id"], text(words, "path"), shown=_shown(words)))

    async def _get(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(client, words, lambda: self._files.get(words["tenant"], words["id"], text(words, "path"), shown=_shown(words)))

    async def _put(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(
            client,
            words,
            lambda: self._files.put(
                words["tenant"],
                words["id"],
                text(words, "path"),
                shown=_shown(words),
                no_overwrite=bool(words.get("no_overwrite")),
                copy_owner=bool(words.get("copy_owner")),
                early=client.early,
            ),
        )

    async def _export(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(client, words, lambda: self._files.export(words["tenant"], words["id"]))

    async def _user(self, client: Connection, words: dict[str, Any]) -> None:
        turn = self._looks.setdefault(words["tenant"], asyncio.Semaphore(LOOKS_AT_ONCE))
        await self._run(client, words, lambda: self._files.user(words["tenant"], words["id"], text(words, "user")), turn=turn)

    async def _changes(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(client, words, lambda: self._files.changes(words["tenant"], words["id"]))

    async def _diff(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(client, words, lambda: self._files.diff(words["tenant"], _side(words, "old"), _side(words, "new")))

    async def _text(self, client: Connection, words: dict[str, Any]) -> None:
        await self._run(
            client, words, lambda: self._files.text(words["tenant"], _side(words, "old"), _side(words, "new"), text(words, "path"))
        )

    async def _commit(self, client: Connection, words: dict[str, Any]) -> None:
        commit = commit_from(words)
        still = self._files.held_still(words["tenant"], words["id"]) if words.get("pause") else nullcontext()
        await self._run(client, words, lambda: self._files.commit(words["tenant"], commit), still=still)

    async def _volume(self, client: Connection, words: dict[str, Any]) -> None:
        """``id`` is the volume's name, ``what`` one of VOLUME_OPS."""
        what = text(words, "what")
        if what not in VOLUME_OPS:
            raise errors.InvalidArgument(f"{what!r} cannot be done with the files of a volume")
        early = {"early": base64.b64encode(client.early).decode()} if what == "put" else {}
        await self._run(
            client, words, lambda: self._files.of_volume(what, words["tenant"], words["id"], text(words, "path") or "/", **early)
        )

    async def _run(
        self,
        client: Connection,
        words: dict[str, Any],
        ask: Callable[[], Job | None],
        *,
        still: AbstractContextManager[None] | None = None,
        turn: asyncio.Semaphore | None = None,
    ) -> None:
        """To the end of the child, also when the client hangs up: the child sees that by itself, and a commit is finished."""
        turn = turn or self._turns.setdefault(words["tenant"], asyncio.Semaphore(AT_ONCE))
        work = asyncio.ensure_future(self._in_turn(client, turn, ask, still or nullcontext()))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.gather(work, return_exceptions=True)
            raise

    async def _in_turn(
        self, client: Connection, turn: asyncio.Semaphore, ask: Callable[[], Job | None], still: AbstractContextManager[None]
    ) -> None:
        loop = asyncio.get_running_loop()
        async with turn:
            deadline = loop.time() + COPY_WAITS_S
            while (job := await asyncio.to_thread(ask)) is None:
                if loop.time() > deadline:
                    raise errors.FailedPrecondition("somebody else copies files into this container: try again when that is done")
                await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(still.__enter__)
                try:
                    client.sock.setblocking(True)
                    report = await asyncio.to_thread(self._desk.hand_over, job.words, {"client": client.sock.fileno(), **job.fds})
                    job.close()
                    with report:
                        report.setblocking(False)
                        await loop.sock_recv(report, 1)
                finally:
                    await asyncio.to_thread(still.__exit__, None, None, None)
            finally:
                job.close()


def _shown(words: dict[str, Any]) -> str:
    """The container as whoever asks named it."""
    return text(words, "shown") or str(words["id"])


def _side(words: dict[str, Any], name: str) -> Side:
    side = words.get(name)
    if not isinstance(side, dict) or not all(isinstance(side.get(key), str) for key in ("kind", "id")):
        raise errors.InvalidArgument(f"{name} must be an object with kind and id")
    return Side(side["kind"], side["id"])
