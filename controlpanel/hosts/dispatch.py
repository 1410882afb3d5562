"""The only door down: one Celery message to a host's queue, one answer back.

    call ── LPUSH host.<name> ──▶ host worker ── LPUSH reply.<random> ──▶ BRPOP ── future by operation id ──▶ caller

A message can get lost (a worker killed between taking it and noting that, a Redis that was killed), so what has no answer is sent
again under the same id: when the connection to Redis is back, and after 2, 6, 18 … s. The host does an operation once by id and
answers from its journal, so sending again is free of harm. After ``timeout_s`` the caller gets Unavailable, and a host that
finds the message later does not act on it.

One Dispatcher an event loop, with two connections. A round trip is under 1 ms.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson
from django.conf import settings

from engine import errors
from workers import contract
from workers.envelope import envelope
from workers.resp import Address, AsyncRedis, RedisError

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 30.0
_FIRST_RESEND_S: Final = 2.0
_PATIENCE_S: Final = 8.0  # with a worker that is behind
_BRPOP_S: Final = 20  # returns empty now and then, so that a peer that vanished without a word (TCP) is noticed
_RECONNECT_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(slots=True)
class _Pending:
    """One question without an answer yet."""

    queue: str
    task: str
    kwargs: dict[str, Any]
    key: str
    answer: asyncio.Future[dict[str, Any]]
    asked_at: float = field(default_factory=time.monotonic)
    resend_at: float = field(default_factory=lambda: time.monotonic() + _FIRST_RESEND_S)
    callers: int = 0


class Dispatcher:
    """Publishes from asyncio and resolves answers. ``close`` it before its loop ends."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reply_to = f"{contract.REPLY_PREFIX}{os.urandom(12).hex()}"
        self._pending: dict[str, _Pending] = {}
        self._redis: AsyncRedis | None = None
        self._tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._resend())]

    async def call(
        self, queue: str, task: str, payload: dict[str, Any], *, key: str, operation: str, timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        """The host's ``ok``; raises the error it answered, or Unavailable after ``timeout_s``."""
        answer = await self.outcome(queue, task, payload, key=key, operation=operation, timeout_s=timeout_s)
        if "error" in answer:
            raise errors.from_json(answer["error"])
        ok: dict[str, Any] = answer.get("ok") or {}
        return ok

    async def outcome(
        self,
        queue: str,
        task: str,
        payload: dict[str, Any],
        *,
        key: str,
        operation: str,
        timeout_s: float = TIMEOUT_S,
        expires_at: float | None = None,
    ) -> dict[str, Any]:
        """{"ok": …} or {"error": …} as the host says it; raises Unavailable when it says nothing. Asking for an operation that
        is under way already shares its answer. ``expires_at``: when the host must not begin it any more; after ``timeout_s``
        if None."""
        pending = self._pending.get(operation)
        if pending is None:
            latest = time.time() + timeout_s if expires_at is None else expires_at
            kwargs = {"operation": operation, "reply_to": self._reply_to, "expires_at": latest, "payload": payload}
            pending = _Pending(queue, task, kwargs, key, asyncio.get_running_loop().create_future())
            self._pending[operation] = pending
            self._publish(pending)
        pending.callers += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(pending.answer)
        except TimeoutError:
            why = f"{queue} does not answer" if self._redis else "Redis does not answer"
            raise errors.Unavailable(f"{why}: try again, or ask an administrator to look at ./manage.py status") from None
        finally:
            pending.callers -= 1
            if not pending.callers:
                del self._pending[operation]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pending in self._pending.values():
            _resolve(pending, {"error": errors.Unavailable("this process is ending").to_json()})

    def _publish(self, pending: _Pending) -> None:
        """At once when connected, without waiting; otherwise ``_receive`` sends it as soon as there is a connection."""
        if self._redis is None:
            return
        message = envelope(pending.queue, pending.task, pending.kwargs, task_id=pending.kwargs["operation"], key=pending.key)
        self._redis.execute("LPUSH", pending.queue, message).add_done_callback(lambda done: self._published(pending, done))

    @staticmethod
    def _published(pending: _Pending, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and isinstance(error := done.exception(), RedisError):  # it will say the same again: tell the caller
            _resolve(pending, {"error": errors.Unavailable(f"Redis refuses the message: {error}").to_json()})

    async def _receive(self) -> None:
        """Keeps both connections, and fetches answers."""
        failures = 0
        while True:
            listener = None
            try:
                self._redis = await AsyncRedis.connect(self._address)
                listener = await AsyncRedis.connect(self._address)
                failures = 0
                for pending in list(self._pending.values()):
                    self._publish(pending)
                while True:
                    async with asyncio.timeout(_BRPOP_S + 10):  # not wait_for: in 3.11 that may swallow a cancellation
                        found = await listener.execute("BRPOP", self._reply_to, _BRPOP_S)
                    if found is not None:
                        self._answer(found[1])
            except (OSError, RedisError) as error:
                if failures == 0:
                    log.warning("Redis: %s; connecting again", error)
                delay = _RECONNECT_S[min(failures, len(_RECONNECT_S) - 1)]
                failures += 1
            finally:
                for connection in (self._redis, listener):
                    if connection is not None:
                        connection.close()
                self._redis = None
            await asyncio.sleep(delay)

    def _answer(self, data: bytes) -> None:
        try:
            answer = orjson.loads(data)
            pending = self._pending.get(answer.pop("operation"))
        except (ValueError, KeyError, TypeError, AttributeError):  # the others' answers come all the same
            log.exception("an answer nobody understands: %.500r", data)
            return
        if pending is not None:
            _resolve(pending, answer)

    async def _resend(self) -> None:
        """What was taken from its queue and has no answer is lost or just takes long: both bear asking again. A queue that is
        not empty says that the worker is behind or away, and more messages would not help it, unless it lasts."""
        while True:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            due = [pending for pending in self._pending.values() if now >= pending.resend_at and not pending.answer.done()]
            if not due or self._redis is None:
                continue
            with suppress(OSError, RedisError):
                for queue in {pending.queue for pending in due}:
                    behind = bool(await self._redis.execute("LLEN", queue))
                    for pending in due:
                        if pending.queue == queue and not (behind and now - pending.asked_at < _PATIENCE_S):
                            pending.resend_at = now + 2 * (now - pending.asked_at)
                            self._publish(pending)


def _resolve(pending: _Pending, answer: dict[str, Any]) -> None:
    if not pending.answer.done():
        pending.answer.set_result(answer)


_dispatchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Dispatcher] = WeakKeyDictionary()


def dispatcher() -> Dispatcher:
    """Of the running event loop; made when first asked for."""
    loop = asyncio.get_running_loop()
    found = _dispatchers.get(loop)
    if found is None:
        found = _dispatchers[loop] = Dispatcher(Address.parse(settings.REDIS_URL))
    return found


async def call(host: str, task: str, payload: dict[str, Any], *, key: str, operation: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Ask ``host`` to do ``task`` (a name of workers.contract). Operations of one ``key`` happen in the order they were asked.

    Raises what the host raised, or errors.Unavailable when it does not answer in time.
    """
    return await dispatcher().call(contract.host_queue(host), task, payload, key=key, operation=operation, timeout_s=timeout_s)


def call_sync(host: str, task: str, payload: dict[str, Any], *, key: str, operation: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The same for management commands and threads without an event loop."""

    async def once() -> dict[str, Any]:
        try:
            return await call(host, task, payload, key=key, operation=operation, timeout_s=timeout_s)
        finally:
            await close()

    return asyncio.run(once())


async def ping(queue: str, *, timeout_s: float = 2.0) -> dict[str, Any]:
    """Does the worker of ``queue`` (``host.<name>`` or ``panel``) live? {"pid", "started_at_ns"}, or Unavailable."""
    operation = os.urandom(16).hex()
    return await dispatcher().call(queue, contract.PING, {}, key="", operation=operation, timeout_s=timeout_s)


async def close() -> None:
    """At the end of a process or of a loop."""
    found = _dispatchers.pop(asyncio.get_running_loop(), None)
    if found is not None:
        with suppress(asyncio.CancelledError):
            await found.close()
