"""Operations whose asker got no answer: a web process that died, a message that was lost, a host that was away.

The host is asked again under the same id, with a deadline that has passed: an act it has done or begun it answers for, one
it never saw it refuses for good. So an old wish never comes true by surprise, and no row stays queued.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from controlpanel.base import database
from controlpanel.hosts import operations, queries
from controlpanel.hosts.dispatch import TIMEOUT_S, Dispatcher, dispatcher
from controlpanel.hosts.models import Operation
from engine import errors
from workers import contract
from workers.resp import Address

log = logging.getLogger(__name__)

OLDER_THAN: Final = timedelta(seconds=TIMEOUT_S + 5)  # whoever asked has given up
ANSWER_S: Final = 10.0


def sweep() -> int:
    """How many were settled."""
    connection.close_if_unusable_or_obsolete()
    waiting = queries.unanswered(older_than=OLDER_THAN)
    if not waiting:
        return 0
    settled = 0
    for operation, outcome in zip(waiting, asyncio.run(_ask(waiting)), strict=True):
        if outcome is None:
            continue
        try:
            with transaction.atomic():
                operations.settle(operation, outcome)
        except Exception:  # it stays queued, and must not keep the others so
            log.exception("%s %s: not settled", operation.verb, operation.object)
            continue
        settled += 1
        log.info("%s %s: settled late: %s", operation.verb, operation.object, outcome.get("error") or "done")
    return settled


async def at_start() -> Callable[[], Awaitable[None]]:
    """For a web process, before it serves: what is unanswered now was asked by one that has died, and nobody else will hear of it.

    So a name that a killed create holds is free, or taken for good, in a moment and not when the asker would have given up.
    Await what is returned, beside the serving.
    """
    waiting = await database.read(queries.unanswered, older_than=timedelta(0))

    async def settle() -> None:
        for operation in waiting:
            try:
                outcome = await dispatcher().outcome(
                    contract.host_queue(operation.host.name),
                    operation.task,
                    operation.payload,
                    key=operation.key,
                    operation=str(operation.pk),
                    timeout_s=ANSWER_S,
                    expires_at=time.time(),
                )
            except errors.Unavailable:
                continue  # the sweeper asks again
            try:
                await database.run(operations.settle, operation, outcome)
            except Exception:
                log.exception("%s %s: not settled at start", operation.verb, operation.object)
                continue
            log.info("%s %s: settled at start: %s", operation.verb, operation.object, outcome.get("error") or "done")

    return settle


async def _ask(waiting: list[Operation]) -> list[dict[str, Any] | None]:
    """The hosts' answers; None of a host that is away."""
    dispatcher = Dispatcher(Address.parse(settings.REDIS_URL))

    async def one(operation: Operation) -> dict[str, Any] | None:
        try:
            return await dispatcher.outcome(
                contract.host_queue(operation.host.name),
                operation.task,
                operation.payload,
                key=operation.key,
                operation=str(operation.pk),
                timeout_s=ANSWER_S,
                expires_at=operation.created_at.timestamp() + TIMEOUT_S,
            )
        except errors.Unavailable:
            return None

    try:
        return list(await asyncio.gather(*map(one, waiting)))
    finally:
        await dispatcher.close()
