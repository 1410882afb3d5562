"""Walks through trees of a tenant's files, which take as long as he has files: in threads of their own, so that nothing else waits.

One of a tenant at a time; who asks for the same meanwhile, or moments later, gets the same answer. The others wait without a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_THREADS: Final = 4
_T = TypeVar("_T")


class Walks:
    """Of one agent."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "walk")
        self._answers: dict[tuple[str, ...], asyncio.Task[Any]] = {}  # under way, or of just now
        self._turns: dict[str, tuple[asyncio.Lock, set[tuple[str, ...]]]] = {}  # of a tenant, and who waits for it

    async def share(self, tenant: str, *what: str, walk: Callable[[], _T], kept_s: float = 0) -> _T:
        """What ``walk`` returns or raises; ``kept_s`` for those who come after its end. A client that leaves ends none."""
        key = (tenant, *what)
        if (task := self._answers.get(key)) is None:
            task = self._answers[key] = asyncio.create_task(self._walk(key, walk, kept_s))
        found: _T = await asyncio.shield(task)
        return found

    async def _walk(self, key: tuple[str, ...], walk: Callable[[], _T], kept_s: float) -> _T:
        loop, tenant = asyncio.get_running_loop(), key[0]
        turn, waiting = self._turns.setdefault(tenant, (asyncio.Lock(), set()))
        waiting.add(key)
        try:
            async with turn:
                return await loop.run_in_executor(self._threads, walk)
        except BaseException:
            kept_s = 0  # a failure is told to those who waited for it
            raise
        finally:
            waiting.discard(key)
            if not waiting:
                del self._turns[tenant]
            loop.call_later(kept_s, self._answers.pop, key, None)
