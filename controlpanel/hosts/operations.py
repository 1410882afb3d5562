"""One act on a host: its row, its message, its answer.

    begin   in the transaction of the caller's rows: audit record and Operation row
    ask     publishes, waits for the answer, settles
    settle  applies an answer exactly once: the asking process' own, or the sweeper's when that process died. An act that failed
            gets a second audit record, about the first

What an answer means for rows is told by handlers, one per task, registered by the apps that own the rows. A handler runs in
the transaction that marks the operation finished, so an answer is applied wholly or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from controlpanel.audit import services as audit
from controlpanel.base import database, live, statements, turns
from controlpanel.hosts import dispatch
from controlpanel.hosts.models import Host, Operation
from controlpanel.tenants import attempts
from controlpanel.tenants.actor import Actor
from engine import errors

Applied = Any
Handler = Callable[[Operation, dict[str, Any], errors.EngineError | None], Applied]

_handlers: dict[str, Handler] = {}
_asking: set[asyncio.Future[Applied]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What the answer will bring rows of, so that it counts in quotas until then."""

    volumes: int = 0
    disk_bytes: int = 0
    project: int | None = None


def on_answer(task: str, handler: Handler) -> None:
    """``handler(operation, ok, error)`` is called once with the host's answer. Registered at import, one per task."""
    _handlers[task] = handler


def begin(
    actor: Actor,
    host: Host,
    *,
    verb: str,
    object: str,
    task: str,
    key: str,
    payload: dict[str, Any],
    audited: bool = True,
    reserved: Reserved | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Operation:
    """Write what is about to be asked. Call it in the transaction that changes the desired state. ``detail``: of the audit record."""
    number = audit.record(actor, verb, object, **(detail or {})).number if audited else 0
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
        record=number,
    )
    if reserved is not None:
        operation.reserved_volumes, operation.reserved_disk_bytes = reserved.volumes, reserved.disk_bytes
        operation.reserved_project = reserved.project
    statements.insert(operation)
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
        if operation.record:
            attempts.told()
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
    if error is not None and operation.record:
        audit.outcome(operation.record, _who(operation), operation.verb, operation.object, error)
    _tell(operation)
    return applied


def tell_done(operation: Operation, **detail: Any) -> None:
    """For a handler: what was done is less than what was asked, and worth a record of its own."""
    if operation.record:
        audit.outcome(operation.record, _who(operation), operation.verb, operation.object, None, **detail)


def _who(operation: Operation) -> audit.Who:
    return audit.Named(operation.tenant_id or audit.PLATFORM, operation.actor, "", operation.door)


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
