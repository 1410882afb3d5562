"""Counts traffic each minute, and tells the panel the sums (engine.traffic): one walk for all containers, whatever they do."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from engine.model.codec import to_json
from engine.model.event import Event, EventKind
from workers.agent.watcher import Watcher

_log = logging.getLogger(__name__)
EACH_S: Final = 60.0


async def count_traffic(watcher: Watcher) -> None:
    """For ever. The first time all sums are told: what a killed agent had not sent yet is among them."""
    tell_all = True
    while True:
        try:
            for traffic in await asyncio.to_thread(watcher.engine.traffic.count, tell_all=tell_all):
                fact = Event(
                    kind=EventKind.TRAFFIC_COUNTED,
                    tenant="",
                    object_id=traffic.book,
                    seq=0,
                    time_ns=time.time_ns(),
                    host=watcher.host,
                    state=to_json(traffic),
                )
                watcher.report(fact)
            tell_all = False
        except OSError as error:
            _log.warning("traffic is counted later: %s", error)
        except Exception:  # whatever it is, the agent has more to do
            _log.exception("traffic is not counted")
        await asyncio.sleep(EACH_S)
