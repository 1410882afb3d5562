"""The heads of the audit's chains, told to the host each minute: its root keeps them where the panel cannot change them."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Max

from controlpanel.audit import chain
from controlpanel.audit.chain import Anchor
from controlpanel.audit.models import Record
from controlpanel.hosts import queries
from controlpanel.hosts.dispatch import Dispatcher
from engine import errors
from workers import contract, witness
from workers.resp import Address

log = logging.getLogger(__name__)

ANSWER_S = 10.0
_AT_ONCE = 1000  # heads in a message
_LATE = 1000  # keys: one that was given earlier may be committed later

_told = 0  # the greatest Record.pk whose chain's head the host has


def tell() -> int:
    """For the panel worker's schedule. How many heads were told; none while the host is away: they are told the next time."""
    global _told
    connection.close_if_unusable_or_obsolete()
    newest = Record.objects.aggregate(newest=Max("pk"))["newest"] or 0
    if newest == _told:
        return 0
    moved = chain.heads(Record.objects.filter(pk__gt=_told - _LATE))
    heads = [[number, *head] for number, head in moved.items()]
    try:
        contradicted = asyncio.run(_ask(queries.local_host().name, heads))
    except errors.Unavailable as error:
        log.warning("the witness of the audit is not told: %s", error.message)
        return 0
    _told = newest
    for number in contradicted:
        log.error("audit chain %d contradicts what the host was told of it before: ./manage.py audit verify", number)
    return len(heads)


async def _ask(host: str, heads: list[list[object]]) -> list[int]:
    dispatcher = Dispatcher(Address.parse(settings.REDIS_URL))
    contradicted: list[int] = []
    try:
        for at in range(0, len(heads), _AT_ONCE):
            payload = {"heads": heads[at : at + _AT_ONCE]}
            words = {"key": "audit", "operation": os.urandom(16).hex(), "timeout_s": ANSWER_S}
            answer = await dispatcher.call(contract.host_queue(host), contract.WITNESS, payload, **words)  # type: ignore[arg-type]
            contradicted += answer["contradicted"]
    finally:
        await dispatcher.close()
    return contradicted


def folder() -> Path:
    return Path(settings.SLIPWAY_DATA) / witness.FOLDER


def anchors(number: int) -> list[Anchor]:
    """What the host was told of a chain, oldest first. OSError where its folder is not: panel and host on two machines."""
    return [Anchor(*head) for head in witness.read(folder(), number)]
