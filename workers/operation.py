"""What every task on a host has in common: once per operation id, an answer on the asker's list, events for the panel.

known and finished   → the same answer again
known, not finished  → the worker was killed in the midst of it: the act is done again with ``Act.replay`` set
new                  → mark, act, outcome to the journal, answer
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine import errors
from engine.model.codec import to_json
from engine.model.container import ContainerState
from engine.model.event import Event, EventKind
from workers import host, report
from workers.app import app

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Act:
    """One running operation. ``mark``: what was true before it began, also when this is a replay."""

    payload: dict[str, Any]
    mark: dict[str, Any] = field(default_factory=dict)
    replay: bool = False
    events: list[Event] = field(default_factory=list)

    def tell(self, kind: EventKind, tenant: str, object_id: str, *, seq: int, state: dict[str, Any]) -> None:
        """The panel shall know, whoever asked."""
        self.events.append(
            Event(kind=kind, tenant=tenant, object_id=object_id, seq=seq, time_ns=time.time_ns(), host=host.name(), state=state)
        )

    def tell_state(self, kind: EventKind, state: ContainerState) -> dict[str, Any]:
        """As ``tell``, of a container; the answer {"state": …}."""
        data = to_json(state)
        self.tell(kind, self.payload.get("tenant") or self.payload["spec"]["tenant"], state.id, seq=state.seq, state=data)
        return {"state": data}


Body = Callable[[Act], dict[str, Any]]
Mark = Callable[[dict[str, Any]], dict[str, Any]]


def task(name: str, *, mark: Mark | None = None) -> Callable[[Body], Body]:
    """Registers ``body`` as the Celery task ``name``. ``mark`` looks at what is, before the act, for replays to compare with."""

    def register(body: Body) -> Body:
        def run(operation: str, reply_to: str, payload: dict[str, Any], expires_at: float = 0) -> None:
            act = Act(payload)
            outcome = perform(body, act, operation, expires_at=expires_at, mark=mark)
            report.push(report.answer(reply_to, operation, outcome))
            report.outbox().put(*act.events)

        app.task(name=name)(run)
        return body

    return register


def _as_it_is(outcome: dict[str, Any]) -> dict[str, Any]:
    """An answer of some time ago, with the container's state of now: a power loss may have taken what it told of, and the journal not."""
    told = (outcome.get("ok") or {}).get("state")
    if told is None:
        return outcome
    try:
        records = host.engine().records
        records.spec(told["id"])
        return {"ok": {**outcome["ok"], "state": to_json(records.state(told["id"]))}}
    except errors.NotFound as error:
        return {"error": error.to_json()}


def perform(body: Body, act: Act, operation: str, *, expires_at: float = 0, mark: Mark | None = None) -> dict[str, Any]:
    """{"ok": …} or {"error": …}; never raises for what the act may raise."""
    journal = host.journal()
    known = journal.find(operation)
    if known is not None and known[1] is not None:
        return _as_it_is(known[1])
    if known is None and expires_at and time.time() > expires_at:
        return {"error": errors.Unavailable("the host took this up too late; nothing was done").to_json()}
    try:
        if known is not None:
            act.mark, act.replay = known[0], True
        else:
            act.mark = mark(act.payload) if mark else {}
            journal.begin(operation, act.mark)
        outcome = {"ok": body(act)}
    except errors.Unavailable as error:  # a part is just down: nothing is decided, and the same id may try again
        journal.forget(operation)
        return {"error": error.to_json()}
    except errors.EngineError as error:
        outcome = {"error": error.to_json()}
    except Exception:
        log.exception("operation %s", operation)
        outcome = {
            "error": errors.Internal(f"internal error on host {host.name()}; its host-worker log has operation {operation}").to_json()
        }
    journal.finish(operation, outcome)
    return outcome
