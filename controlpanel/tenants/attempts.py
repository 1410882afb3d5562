"""What the running request tries: so that whoever tells it "no" can record the refusal, and whoever finds an object for it can ask
whether that may be done to this one.

``permissions.require`` notes the verb, the doors (Docker API, REST, pages, terminals) see the error pass, and neither knows the other.
A request is a task, and an Attempt is of the context that it runs in.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from controlpanel.tenants.actor import Actor
from engine.errors import EngineError


@dataclass(slots=True)
class Attempt:
    """``told``: its refusal has a record already. ``error``: the refusal, where a handler has it that can't wait for a record."""

    actor: Actor
    verb: str
    told: bool = False
    error: EngineError | None = None


_current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
_verb: ContextVar[str] = ContextVar("verb", default="")


def begin(actor: Actor, verb: str) -> None:
    """Of what is only looked at, nobody needs to know the refusal."""
    _verb.set(verb)
    if not verb.endswith(".view"):
        _current.set(Attempt(actor, verb))


def verb() -> str:
    """The last that was asked for; "" before any."""
    return _verb.get()


def current() -> Attempt | None:
    return _current.get()


def refused(error: EngineError) -> None:
    found = _current.get()
    if found is not None:
        found.error = error


def told() -> None:
    found = _current.get()
    if found is not None:
        found.told = True
