"""What the host tells: one fact, once, with a number that orders it among the facts of its object."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    CONTAINER_CREATED = "container.created"
    CONTAINER_STARTED = "container.started"
    CONTAINER_EXITED = "container.exited"
    CONTAINER_CHANGED = "container.changed"  # paused, health, restarting: a state with a greater ``change``
    CONTAINER_REMOVED = "container.removed"
    EXEC_EXITED = "exec.exited"
    IMAGE_ADDED = "image.added"
    IMAGE_REMOVED = "image.removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``state`` is a ContainerState as JSON for container kinds, an ImageRecord with ``refs`` for image kinds, and for exec's an
    ExecState, whose id is the object's.
    """

    kind: EventKind
    tenant: str
    object_id: str
    seq: int
    time_ns: int
    host: str = ""
    state: dict[str, Any] = field(default_factory=dict)
