"""A thread for each long act, beside the loop's own few: a slow client must not hold one that others wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(act: Callable[[], T], name: str) -> T:
    """``act``'s result. Cancelling does not end the act: whoever cancels makes it end, and waits for it if that matters."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = act()
        except BaseException as error:
            _tell(loop, done, None, error)
        else:
            _tell(loop, done, lambda: done.set_result(result), None)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


def _tell(
    loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], resolve: Callable[[], None] | None, error: BaseException | None
) -> None:
    def now() -> None:
        if done.done():
            return
        if resolve is not None:
            resolve()
        elif error is not None:
            done.set_exception(error)

    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(now)
