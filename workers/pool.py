"""Celery's threads pool, with order and fairness: tasks whose header ``key`` is the same run one after the other, as they arrived, and
of one tenant only so many at a time, so that who waits for himself (for a volume that is being filled) holds up nobody else.

keys     {"4f1c…": deque([start, stop]), …}    the leftmost of each deque is running or in its tenant's line; the rest wait behind it
running  {"demo": 8, …}                        how many of a tenant have a thread
lines    {"demo": deque([create, …])}          those of a tenant that has as many as it may; they wait without a thread
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from celery.concurrency.thread import ApplyResult, TaskPool

from engine import wire

OF_A_TENANT: Final = 8  # threads at a time

Run = Callable[[], ApplyResult]


class KeyedPool(TaskPool):  # type: ignore[misc]
    """``worker_pool = "workers.pool:KeyedPool"``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._keys: dict[str, deque[tuple[str, Run]]] = {}
        self._running: Counter[str] = Counter()
        self._lines: dict[str, deque[Run]] = {}
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def register_with_event_loop(self, hub: Any) -> None:
        """Called for every connection to Redis: the loop starts anew with each."""
        hub.add_reader(self._woken, os.read, self._woken, 4096)

    def on_apply(self, target: Callable[..., Any], args: Any = None, kwargs: Any = None, **options: Any) -> ApplyResult | None:
        """``args`` is what celery.worker.request hands to the tracer: (task, id, request dict, …)."""
        words: tuple[Any, ...] = args or ()
        key = words[2].get("key") or "" if len(words) > 2 else ""
        tenant = _tenant(words[3]) if len(words) > 3 else ""
        submit = super().on_apply

        def run() -> ApplyResult:
            result = submit(target, args, kwargs, **options)
            result.f.add_done_callback(lambda _done: self._done(key, tenant))
            return result

        with self._lock:
            if key:
                waiting = self._keys.setdefault(key, deque())
                waiting.append((tenant, run))
                if len(waiting) > 1:
                    return None
            begins = self._begins(tenant, run)
        return run() if begins else None

    def _begins(self, tenant: str, run: Run) -> bool:
        """Whether its time has come; else it is in the line. Under the lock."""
        if not tenant:
            return True
        if self._running[tenant] >= OF_A_TENANT:
            self._lines.setdefault(tenant, deque()).append(run)
            return False
        self._running[tenant] += 1
        return True

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            pass  # full: it will wake

    def _done(self, key: str, tenant: str) -> None:
        self._wake()
        ready: list[Run] = []
        with self._lock:
            if tenant:
                self._running[tenant] -= 1
                if line := self._lines.get(tenant):
                    self._running[tenant] += 1
                    ready.append(line.popleft())
                if not line:
                    self._lines.pop(tenant, None)
                if not self._running[tenant]:
                    del self._running[tenant]
            if key:
                waiting = self._keys[key]
                waiting.popleft()
                if not waiting:
                    del self._keys[key]
                elif self._begins(*waiting[0]):
                    ready.append(waiting[0][1])
        with suppress(RuntimeError):  # the pool is closing: what has not begun stays unacknowledged and is restored at the next start
            for run in ready:
                run()


def _tenant(body: bytes | str) -> str:
    """Whose a message is by what it asks for, which is what the task goes by: a header could say another. "" for nobody's."""
    try:
        payload = wire.decode(body)[1]["payload"]
        for words in (payload, *payload.values()):
            if isinstance(words, dict) and isinstance(words.get("tenant"), str):
                return str(words["tenant"])
    except (ValueError, TypeError, LookupError, AttributeError):
        pass  # Celery refuses it, in its own words
    return ""
