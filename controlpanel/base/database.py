"""The database from asyncio: one writer thread per process, a few readers.

SQLite has one writer at a time anyway: a queue in front of it is fair and never meets "database is locked" within the
process; on PostgreSQL it costs nothing that matters. Functions given here are ordinary synchronous ORM code. Each
thread keeps its own connection for good and drops it when it broke, as Django does between requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connection, transaction

from controlpanel.base import live

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4

_writer = ThreadPoolExecutor(1, thread_name_prefix="database-writer")
_readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in the writer thread inside one transaction. What it published on commit is delivered when this returns.

    An act that was begun is finished: a caller that is cancelled meanwhile (a client that went away) stops waiting only.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    _writer.submit(_act, loop, done, functools.partial(function, *args, **kwargs))
    return await done


def _act(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], function: Callable[[], T]) -> None:
    """In the writer thread; one hop back carries the messages and the result, in this order."""
    result, failure = None, None
    with live.collect() as messages:
        try:
            connection.close_if_unusable_or_obsolete()
            with transaction.atomic():
                result = function()
        except BaseException as error:
            failure = error

    def tell() -> None:
        live.deliver(messages)
        if done.done():
            return
        if failure is not None:
            done.set_exception(failure)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    with contextlib.suppress(RuntimeError):  # the loop has ended; the act is done all the same
        loop.call_soon_threadsafe(tell)


async def read(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a reader thread, outside of any transaction. Evaluate querysets inside of it."""
    return await asyncio.get_running_loop().run_in_executor(_readers, functools.partial(_plain, function, *args, **kwargs))


def _plain(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    connection.close_if_unusable_or_obsolete()
    return function(*args, **kwargs)


def close_all() -> None:
    """Close the connections of all database threads: before a test database is dropped. The threads live on."""
    for pool, size in ((_writer, 1), (_readers, READERS)):
        for future in [pool.submit(_close) for _ in range(size)]:
            future.result()


def _close() -> None:
    connection.close()  # looked up here: each thread has its own
