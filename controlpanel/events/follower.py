"""In the web process: the agent's stream of facts, applied at once, so that waiters wake in well under a millisecond.

Whenever the stream (re)starts, the host sends its inventory first; whatever was missed meanwhile is in it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import orjson
from django.conf import settings
from django.utils import timezone

from controlpanel.base import database
from controlpanel.containers import projection
from controlpanel.events import autoremove, ingest, inventory
from controlpanel.events.inventory import Inventory, Known
from controlpanel.events.strangers import Strangers, take_in
from controlpanel.execs import projection as execs
from controlpanel.hosts import presence
from controlpanel.hosts.models import Host
from controlpanel.hosts.streams import open_stream
from engine.errors import EngineError, Unavailable
from engine.model.event import EventKind
from workers.contract import BEAT_LOST_S

log = logging.getLogger(__name__)

_RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


async def follow() -> None:
    """For ever."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await _follow_once()
            why = "the agent ended the stream"
        except (EngineError, OSError, ValueError) as error:
            why = str(error)
        except Exception as error:  # this loop is what wakes every waiter: it must outlive any mistake
            log.exception("events of the host")
            why = repr(error)
        failures = 0 if time.monotonic() - began > 5 else failures + 1
        if presence.lost(settings.SLIPWAY_HOST):
            log.warning("events of the host: %s; connecting again", why)
        await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S)) - 1] if failures else 0)


async def _follow_once() -> None:
    before = await database.read(inventory.known, settings.SLIPWAY_HOST)
    found: Inventory | None = Inventory()
    waiting: Strangers = {}
    _ok, reader, writer = await open_stream("events", "", "", since_seq=None, answer_within_s=BEAT_LOST_S)
    try:
        while line := await _next(reader):
            message: dict[str, Any] = orjson.loads(line)
            if "beat" in message:
                waiting = await take_in(waiting)
                continue
            if "inventory" in message:
                if found is not None:
                    waiting = await take_in(await database.run(_arrived, before, found))
                    presence.back(settings.SLIPWAY_HOST)
                    found = None
                    autoremove.look_again()
                continue
            if found is not None:
                found.note(message)
            if not _is_old(message):
                await _apply(message)
    finally:
        writer.close()


async def _apply(message: dict[str, Any]) -> None:
    """One that can never apply must not end the stream: the next would begin with it again, and nothing behind it was ever heard."""
    try:
        await database.run(ingest.apply, message)
    except Exception as error:
        ingest.give_up(message, error)


async def _next(reader: asyncio.StreamReader) -> bytes:
    """b"" at the end. An agent that hangs says nothing, not even that nothing happens."""
    try:
        async with asyncio.timeout(BEAT_LOST_S):
            return await reader.readline()
    except TimeoutError:
        raise Unavailable("the host's agent says nothing any more") from None


def _is_old(message: dict[str, Any]) -> bool:
    """Most facts are echoes of answers that this process has applied; those need no transaction."""
    kind = message["kind"]
    if kind == EventKind.EXEC_EXITED:
        return not execs.heard_end(message["tenant"], message["state"])
    return kind in ingest.STATES and projection.has_seen(message["object_id"], message["seq"], message["state"].get("change", 0))


def _arrived(before: Known, found: Inventory) -> Strangers:
    strangers = inventory.settle(before, found)
    Host.objects.filter(name=settings.SLIPWAY_HOST).update(seen_at=timezone.now())
    return strangers
