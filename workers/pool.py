"""Celery's threads pool, with order: tasks whose header ``key`` is the same run one after the other, as they arrived.

keys   {"4f1c…": deque([start, stop]), "": …}     the leftmost of each deque is running; the rest wait without a thread
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.concurrency.thread import ApplyResult, TaskPool


class KeyedPool(TaskPool):  # type: ignore[misc]
    """``worker_pool = "workers.pool:KeyedPool"``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()
        self._keys: dict[str, deque[Callable[[], None]]] = {}
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def register_with_event_loop(self, hub: Any) -> None:
        """Called for every connection to Redis: the loop starts anew with each."""
        hub.add_reader(self._woken, os.read, self._woken, 4096)

    def on_apply(self, target: Callable[..., Any], args: Any = None, kwargs: Any = None, **options: Any) -> ApplyResult | None:
        """``args`` is what celery.worker.request hands to the tracer: (task, id, request dict, …)."""
        key = args[2].get("key") if args and len(args) > 2 else None
        submit = super().on_apply
        if not key:
            result = submit(target, args, kwargs, **options)
            result.f.add_done_callback(lambda _done: self._wake())
            return result

        def run() -> None:
            submit(target, args, kwargs, **options).f.add_done_callback(lambda _done: self._next(key))

        with self._lock:
            waiting = self._keys.setdefault(key, deque())
            waiting.append(run)
            first = len(waiting) == 1
        if first:
            run()
        return None

    def _wake(self) -> None:
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            pass  # full: it will wake

    def _next(self, key: str) -> None:
        self._wake()
        with self._lock:
            waiting = self._keys[key]
            waiting.popleft()
            if not waiting:
                del self._keys[key]
                return
            run = waiting[0]
        try:
            run()
        except RuntimeError:  # the pool is closing: what has not begun stays unacknowledged and is restored at the next start
            pass
