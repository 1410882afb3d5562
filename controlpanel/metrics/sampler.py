"""Live samples of containers for any number of browsers: a stream from the agent is opened for the first watcher of a
container and closed a little after the last one left.

A watcher has a queue of a few samples; who does not read loses the oldest, and costs the others nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from controlpanel.hosts.streams import open_stream
from controlpanel.metrics.sample import Sample, sample
from engine.errors import EngineError, NotFound

log = logging.getLogger(__name__)

HISTORY: Final = 120  # samples a new watcher is given at once, so that a chart is not empty
LINGER_S: Final = 10.0
RETRY_S: Final = 2.0


class _Feed:
    """One container's stream and its watchers."""

    def __init__(self, tenant: str, container_id: str) -> None:
        self.tenant, self.container_id = tenant, container_id
        self.history: deque[Sample] = deque(maxlen=HISTORY)
        self.watchers: set[asyncio.Queue[Sample]] = set()
        self.task = asyncio.ensure_future(self._run())
        self.ending: asyncio.TimerHandle | None = None

    async def _run(self) -> None:
        """Again and again until nobody watches: the container may start later, the agent may be restarted."""
        while True:
            try:
                await self._follow()
            except (EngineError, OSError, ValueError) as error:
                if not isinstance(error, NotFound):
                    log.debug("stats of %s: %s", self.container_id[:12], error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        _ok, reader, writer = await open_stream("stats", self.tenant, self.container_id, interval_s=1, count=0)
        try:
            before: dict[str, Any] | None = None
            at = time.monotonic()
            async for line in reader:
                stats, now = orjson.loads(line), time.monotonic()
                self._tell(sample(stats, before, time_ms=int(time.time() * 1000), interval_s=now - at))
                before, at = stats, now
        finally:
            writer.close()

    def _tell(self, item: Sample) -> None:
        self.history.append(item)
        for queue in self.watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(item)


_feeds: dict[str, _Feed] = {}


@contextlib.asynccontextmanager
async def watch(tenant: str, container_id: str) -> AsyncIterator[tuple[list[Sample], asyncio.Queue[Sample]]]:
    """What is known of the last two minutes, and the queue of what comes. The caller has checked that it may see it."""
    feed = _feeds.get(container_id)
    if feed is None:
        feed = _feeds[container_id] = _Feed(tenant, container_id)
    if feed.ending is not None:
        feed.ending.cancel()
        feed.ending = None
    queue: asyncio.Queue[Sample] = asyncio.Queue(maxsize=4)
    feed.watchers.add(queue)
    try:
        yield list(feed.history), queue
    finally:
        feed.watchers.discard(queue)
        if not feed.watchers:
            feed.ending = asyncio.get_running_loop().call_later(LINGER_S, _close, feed)


def _close(feed: _Feed) -> None:
    if not feed.watchers and _feeds.get(feed.container_id) is feed:
        del _feeds[feed.container_id]
        feed.task.cancel()
