"""Ops ``build``, ``build_prune``, ``build_usage``; detached.py has more. A build waits for its turn, then a child of the yard takes over.

Turns are given to tenants, not to builds: a free place goes to the tenant of those who wait that has the fewest builds under way, and
among equals to the one that was served longest ago. A tenant without a build under way does not wait for others' (which may take an
hour each) before AT_MOST are: its share of the processors is its cgroup's business. Who hangs up while waiting leaves the queue.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from engine import errors
from engine.builds.pruning import prune, usage
from engine.builds.running import clear_dead
from engine.engine import Engine
from engine.files.desk import Desk
from engine.model.build import BuildRequest, check_request
from engine.model.codec import from_json
from workers.agent.connection import Connection
from workers.agent.detached import DetachedBuilds
from workers.agent.threads import in_own_thread

PLACES: Final = max(2, os.cpu_count() or 1)  # builds at once on this host
AT_MOST: Final = 8 * PLACES
WAITING_MAX: Final = 32  # of one tenant
TELL_AFTER_S: Final = 2.0  # who waits longer is told so
_STEPS: Final = 200  # of a cache, in a line


class BuildOps:
    """``ops`` for the agent's table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._desk = Desk(engine.config, module="engine.builds.yard")
        self._turns = Turns(PLACES, AT_MOST)
        self._detached = DetachedBuilds(engine.config)
        self.ops = {"build": self._build, "build_prune": self._prune, "build_usage": self._usage, **self._detached.ops}

    async def _build(self, client: Connection, words: dict[str, Any]) -> None:
        request = _request(words)
        if words.get("detached") is True:
            await self._detached.begin(client, request.tenant, request.id, partial(self._in_turn, words, request))
            return
        await client.send(b'{"ok":{}}\n')  # at once: it may have to wait for its turn
        await self._in_turn(words, request, client)

    async def _in_turn(self, words: dict[str, Any], request: BuildRequest, client: Connection) -> None:
        try:
            async with self._turns.turn(request.tenant, lambda: client.send(_waiting())):
                await self._hand_over(client, words, request)
        except errors.EngineError as error:
            await client.send(_line({"errorDetail": {"message": error.message}, "error": error.message, "code": error.code}))

    async def _hand_over(self, client: Connection, words: dict[str, Any], request: BuildRequest) -> None:
        question = {
            "request": words["request"],
            "registries": words.get("registries") or {},
            "early": base64.b64encode(client.early).decode(),
        }
        cgroup = await asyncio.to_thread(self._cgroup, request.tenant)
        client.sock.setblocking(True)
        memory = os.memfd_create("build", os.MFD_CLOEXEC)
        try:
            os.write(memory, json.dumps(question).encode())
            job = {"op": "build", "cgroup": cgroup}
            report = await asyncio.to_thread(self._desk.hand_over, job, {"client": client.sock.fileno(), "question": memory})
        finally:
            os.close(memory)
        work = asyncio.ensure_future(self._until_over(report))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:  # the client hung up; the build sees that by itself, and clears up
            await asyncio.gather(work, return_exceptions=True)
            raise

    def _cgroup(self, tenant: str) -> str:
        self._engine.ensure_tenant(tenant)
        return self._engine.files.work_cgroup(tenant)

    async def _until_over(self, report: Any) -> None:
        with report:
            report.setblocking(False)
            await asyncio.get_running_loop().sock_recv(report, 1)
        with suppress(errors.EngineError):  # what it cannot clear now, the next one does, or the next start
            await in_own_thread(lambda: clear_dead(self._engine), "builds")

    async def _prune(self, client: Connection, words: dict[str, Any]) -> None:
        done = await in_own_thread(lambda: prune(self._engine.images, words["tenant"], words.get("filters") or {}), "builds")
        await client.send(_line({"ok": done}))

    async def _usage(self, client: Connection, words: dict[str, Any]) -> None:
        steps = await in_own_thread(lambda: usage(self._engine.images, words["tenant"]), "builds")
        await client.send(_line({"ok": {"steps": len(steps)}}))
        for first in range(0, len(steps), _STEPS):
            await client.send(_line({"steps": steps[first : first + _STEPS]}))


class Turns:
    def __init__(self, places: int, at_most: int) -> None:
        """``places`` for all; beyond them, up to ``at_most``, for tenants that have none."""
        self._free, self._reserve = places, at_most - places
        self._running: dict[str, int] = {}
        self._served: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._clock = itertools.count()

    @asynccontextmanager
    async def turn(self, tenant: str, tell: Any) -> AsyncIterator[None]:
        """``tell()`` is awaited once when it takes long. RateLimited when too many of the tenant wait."""
        await self._enter(tenant, tell)
        try:
            yield
        finally:
            self._leave(tenant)

    async def _enter(self, tenant: str, tell: Any) -> None:
        if self._is_room(tenant) and not any(self._waiting.values()):
            self._begin(tenant)
            return
        if not self._running.get(tenant) and not self._waiting.get(tenant) and self._is_room(tenant):
            self._begin(tenant)  # those who wait have builds under way
            return
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= WAITING_MAX:
            raise errors.RateLimited(f"{WAITING_MAX} builds of tenant {tenant} wait already: try again when some are done")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            done, _pending = await asyncio.wait([mine], timeout=TELL_AFTER_S)
            if not done:
                await tell()
                await mine
        except BaseException:
            if mine.done() and not mine.cancelled():  # its place was given to one that has gone
                self._leave(tenant)
            elif mine in queue:
                queue.remove(mine)
            raise

    def _is_room(self, tenant: str) -> bool:
        return self._free > 0 or (not self._running.get(tenant) and self._free + self._reserve > 0)

    def _begin(self, tenant: str) -> None:
        self._free -= 1  # below zero: of the reserve
        self._running[tenant] = self._running.get(tenant, 0) + 1
        self._served[tenant] = next(self._clock)

    def _leave(self, tenant: str) -> None:
        self._free += 1
        self._running[tenant] -= 1
        while waiting := [name for name, queue in self._waiting.items() if queue and self._is_room(name)]:
            following = min(waiting, key=lambda name: (self._running.get(name, 0), self._served.get(name, -1)))
            mine = self._waiting[following].popleft()
            self._begin(following)
            mine.set_result(None)
        if not self._running[tenant] and not self._waiting.get(tenant):
            self._running.pop(tenant)
            self._waiting.pop(tenant, None)


def _request(words: dict[str, Any]) -> BuildRequest:
    """Of the tenant and with the id that the ticket is for."""
    try:
        request = from_json(BuildRequest, words.get("request"))
    except ValueError as error:
        raise errors.InvalidArgument(f"malformed build request: {error}") from None
    if (request.tenant, request.id) != (words["tenant"], words["id"]):
        raise errors.PermissionDenied("the ticket is not for this")
    check_request(request)
    return request


def _waiting() -> bytes:
    return _line({"stream": "Waiting for other builds of this host to end\n"})


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
