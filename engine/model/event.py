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
    VOLUME_ADDED = "volume.added"  # in the inventory alone: whoever makes one is answered
    NETWORK_ADDED = "network.added"  # likewise
    TRAFFIC_COUNTED = "traffic.counted"  # of the whole host, on queue ``panel`` alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``state`` is a ContainerState as JSON for container kinds, an ImageRecord with ``refs`` for image kinds, a VolumeSpec
    for volumes, a NetworkSpec for networks, and for exec's an ExecState, whose id is the object's; a Traffic of no tenant for traffic.
    """

    kind: EventKind
    tenant: str
    object_id: str
    seq: int
    time_ns: int
    host: str = ""
    state: dict[str, Any] = field(default_factory=dict)
