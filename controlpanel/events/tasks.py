"""The durable way of the same facts: tasks on queue ``panel``, taken by the panel's worker.

It is the second way: the web process hears of nearly everything first, by the agent's stream. A fact is left to it for a
moment, so that two processes do not meet at the database's one write lock for the same news. What a host says comes in order, many
facts in a message (workers.outbox), so the moment is a delay of the whole line and not of each: what is older already goes
through at once.
"""

from __future__ import annotations

import logging
import time
from itertools import chain, repeat
from typing import Any, Final

from celery.worker.state import maybe_shutdown
from django.db import connection, transaction

from controlpanel.events import ingest
from workers import contract
from workers.app import app

log = logging.getLogger(__name__)

GRACE_S: Final = 0.5
_AGAIN_S: Final = (0.1, 0.2, 0.5, 1.0)  # the database is asked again after these, then each time after the last


@app.task(name=contract.INGEST)
def ingest_events(events: list[dict[str, Any]], **_envelope: Any) -> None:
    """Each fact in a transaction of its own; one that can never apply is in the log, and keeps no other back.

    While the database is busy or away the message waits here, and with it the line, which has one key. A worker that ends meanwhile
    leaves it unacknowledged: the next one begins with it.
    """
    newest_ns = max((event["time_ns"] for event in events if isinstance(event.get("time_ns"), int)), default=0)
    age_s = time.time() - newest_ns / 1e9
    time.sleep(min(max(0.0, GRACE_S - age_s), GRACE_S))
    left = list(events)
    for pause_s in chain(_AGAIN_S, repeat(_AGAIN_S[-1])):
        try:
            connection.close_if_unusable_or_obsolete()
            _apply(left)
            return
        except ingest.AWAY as error:
            log.warning("%d facts wait for the database: %s", len(left), error)
        time.sleep(pause_s)
        maybe_shutdown()  # its exception passes Celery's tracer, and nothing is acknowledged


def _apply(left: list[dict[str, Any]]) -> None:
    """Takes from ``left`` what is done with."""
    left[:] = ingest.news(left)
    while left:
        try:
            with transaction.atomic():
                ingest.apply(left[0])
        except Exception as error:
            ingest.give_up(left[0], error)
        del left[0]
