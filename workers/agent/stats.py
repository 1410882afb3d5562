"""Ops ``stats`` and ``sample``: Docker's stats objects. All streams of one container at one pace live on one sampler."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from engine import errors
from engine.engine import Engine
from workers.agent.connection import Connection
from workers.agent.words import integer

MIN_INTERVAL_S: Final = 0.1
MAX_INTERVAL_S: Final = 3600.0
Sample = dict[str, Any]


class Sampler:
    """Measures one container every ``interval_s`` while somebody is there. ``latest`` is the last line."""

    def __init__(self, engine: Engine, container_id: str, interval_s: float) -> None:
        self._engine, self._id, self._interval_s = engine, container_id, interval_s
        self._before: Sample | None = None
        self._next: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self.latest = self._measure()
        self._task = asyncio.ensure_future(self._run())

    def following(self) -> asyncio.Future[bytes | None]:
        """The next line; shared, not to be cancelled. None when the container has ended."""
        return self._next

    def close(self) -> None:
        self._task.cancel()

    def _measure(self) -> bytes:
        """A client makes percentages of each object and what it says of the one before."""
        sample = self._engine.sample(self._id)
        if self._before is not None:
            sample["preread"], sample["precpu_stats"] = self._before["read"], self._before["cpu_stats"]
        self._before = sample
        return _line(sample)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._interval_s, loop.time())
            await asyncio.sleep(due - loop.time())
            line: bytes | None = None
            try:
                line = self.latest = self._measure()
            except errors.EngineError:
                pass
            told, self._next = self._next, loop.create_future()
            told.set_result(line)
            if line is None:
                self._next.set_result(None)
                return


class Stats:
    """The samplers that somebody looks at."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._samplers: dict[tuple[str, float], Sampler] = {}
        self._users: dict[Sampler, int] = {}

    async def stream(self, client: Connection, words: dict[str, Any]) -> None:
        """``count`` samples (0: until the container ends or the client goes), ``interval_s`` apart."""
        container_id = self._checked(words)
        interval_s = words.get("interval_s") or 1
        if isinstance(interval_s, bool) or not isinstance(interval_s, int | float):
            raise errors.InvalidArgument("interval_s must be a number")
        count = integer(words, "count", 0)
        key = (container_id, min(max(MIN_INTERVAL_S, float(interval_s)), MAX_INTERVAL_S))
        sampler = self._samplers.get(key)
        if sampler is None:
            sampler = self._samplers[key] = Sampler(self._engine, *key)
        self._users[sampler] = self._users.get(sampler, 0) + 1
        try:
            following = sampler.following()
            await client.send(b'{"ok":{}}\n' + sampler.latest)
            while count != 1:
                count -= bool(count)
                line = await asyncio.shield(following)
                if line is None:
                    return
                following = sampler.following()
                await client.send(line)
        finally:
            self._leave(key, sampler)

    def _leave(self, key: tuple[str, float], sampler: Sampler) -> None:
        self._users[sampler] -= 1
        if self._users[sampler]:
            return
        del self._users[sampler]
        if self._samplers.get(key) is sampler:
            del self._samplers[key]
        sampler.close()

    async def sample(self, client: Connection, words: dict[str, Any]) -> None:
        """One, now."""
        await client.send(b'{"ok":' + _line(self._engine.sample(self._checked(words))).rstrip() + b"}\n")

    def _checked(self, words: dict[str, Any]) -> str:
        """The container's id. NotFound also for another tenant's."""
        self._engine.records.spec(words["id"], tenant=words["tenant"])
        return str(words["id"])


def _line(sample: Sample) -> bytes:
    return json.dumps(sample, separators=(",", ":")).encode() + b"\n"
