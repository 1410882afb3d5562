"""The durable way of events to the panel: queue ``panel``, many in one message.

The web process hears of nearly everything first, by the agent's stream, and the panel's worker leaves it half a second to do so
(controlpanel.events.tasks). So nothing is lost by gathering: a message each cost the two workers more than starting the container
that it told of (13 ms of CPU a ``docker run`` on a busy machine). What a killed process had gathered is in the agent's inventory.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections import deque
from typing import Final

from engine.model.codec import to_json
from engine.model.event import Event
from workers import contract
from workers.envelope import envelope
from workers.resp import Redis, RedisError

log = logging.getLogger(__name__)

GATHER_S: Final = 1.0
RETRY_S: Final = 2.0  # of a Redis that is away
BATCH: Final = 200  # events a message
KEPT: Final = 20_000  # events that wait for a Redis that is away; older ones are in every inventory


class Outbox:
    """Of one process; safe for threads. Its own thread sends, begun with the first event."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._batch: list[Event] = []  # taken from them, and not sent yet
        self._filled = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, *events: Event) -> None:
        """Returns at once. Events of one object arrive in the order of the calls."""
        if not events:
            return
        self._events.extend(events)
        if self._thread is None:
            self._begin()
        self._filled.set()

    def flush(self) -> bool:
        """Sends what is there, from the calling thread. False: Redis is away, and it is kept."""
        with self._lock:
            while self._batch or self._events:
                if not self._batch:
                    self._batch = [self._events.popleft() for _ in range(min(BATCH, len(self._events)))]
                try:
                    self._redis.execute(("LPUSH", contract.PANEL_QUEUE, _message(self._batch)))
                except (OSError, RedisError) as error:
                    log.warning("queue panel: %s; %d events wait", error, len(self._batch) + len(self._events))
                    return False
                self._batch = []
        return True

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
                self._thread.start()
                atexit.register(self.flush)

    def _run(self) -> None:
        while True:
            self._filled.wait()
            time.sleep(GATHER_S)
            self._filled.clear()
            if not self.flush():
                time.sleep(RETRY_S)
                self._filled.set()


def _message(events: list[Event]) -> bytes:
    """One key: the panel's worker takes these messages in order, and with them the events of each object."""
    kwargs = {"events": [to_json(event) for event in events]}
    return envelope(contract.PANEL_QUEUE, contract.INGEST, kwargs, task_id=str(uuid.uuid4()), key=f"events.{events[0].host}")
