"""One act on a host: its row, its message, its answer.

    begin   in the transaction of the caller's rows: Operation row and audit record
    ask     publishes, waits for the answer, settles
    settle  applies an answer exactly once: the asking process' own, or the sweeper's when that process died

What an answer means for rows is told by handlers, one per task, registered by the apps that own the rows. A handler runs in
the transaction that marks the operation finished, so an answer is applied wholly or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django.utils import timezone

from controlpanel.audit import services as audit
from controlpanel.base import database, live, statements, turns
from controlpanel.hosts import dispatch
from controlpanel.hosts.models import Host, Operation
from controlpanel.tenants.actor import Actor
from engine import errors

Applied = Any
Handler = Callable[[Operation, dict[str, Any], errors.EngineError | None], Applied]

_handlers: dict[str, Handler] = {}
_asking: set[asyncio.Future[Applied]] = set()


def on_answer(task: str, handler: Handler) -> None:
    """``handler(operation, ok, error)`` is called once with the host's answer. Registered at import, one per task."""
    _handlers[task] = handler


def begin(
    actor: Actor, host: Host, *, verb: str, object: str, task: str, key: str, payload: dict[str, Any], audited: bool = True
) -> Operation:
    """Write what is about to be asked. Call it in the transaction that changes the desired state."""
    operation = Operation(
        tenant=actor.tenant,
        host=host,
        verb=verb,
        object=object[:300],
        actor=actor.label[:200],
        door=actor.door_name,
        task=task,
        key=key,
        payload=payload,
    )
    statements.insert(operation)
    if audited:
        audit.record(actor, verb, object)
    _tell(operation)
    return operation


async def ask(operation: Operation, *, timeout_s: float = dispatch.TIMEOUT_S) -> Applied:
    """What the handler made of the answer. Raises the host's refusal.

    Without an answer in time: Unavailable; the operation stays queued, and the sweeper learns later what became of it. A caller
    that is cancelled does not end it: the answer is applied when it comes.
    """
    asking = asyncio.ensure_future(_ask(operation, timeout_s))
    _asking.add(asking)
    asking.add_done_callback(_asked)
    return await asyncio.shield(asking)


def _asked(asking: asyncio.Future[Applied]) -> None:
    _asking.discard(asking)
    if not asking.cancelled():
        asking.exception()  # seen, also when the caller has gone


async def _ask(operation: Operation, timeout_s: float) -> Applied:
    host, key, number = operation.host.name, operation.key, str(operation.pk)
    try:
        async with turns.turn(operation.tenant_id or 0):
            ok = await dispatch.call(host, operation.task, operation.payload, key=key, operation=number, timeout_s=timeout_s)
    except errors.Unavailable:
        raise
    except errors.EngineError as error:
        await database.run(settle, operation, {"error": error.to_json()})
        raise
    return await database.run(settle, operation, {"ok": ok})


def settle(operation: Operation, outcome: dict[str, Any]) -> Applied | None:
    """Apply an answer, in one transaction with the mark that it was applied. The second time does nothing: None."""
    error = errors.from_json(outcome["error"]) if "error" in outcome else None
    operation.state = Operation.FAILED if error else Operation.DONE
    operation.outcome, operation.finished_at = outcome, timezone.now()
    if not statements.update(operation, "state", "outcome", "finished_at", only_if=("state", Operation.QUEUED)):
        return None
    handler = _handlers.get(operation.task)
    applied = handler(operation, outcome.get("ok") or {}, error) if handler else None
    _tell(operation)
    return applied


def _tell(operation: Operation) -> None:
    live.on_commit(
        {
            "kind": "operation",
            "tenant": operation.tenant_id or live.EVERYONE,
            "id": str(operation.pk),
            "verb": operation.verb,
            "object": operation.object,
            "actor": operation.actor,
            "state": operation.state,
        }
    )
