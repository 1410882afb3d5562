"""Writing and reading Docker-shaped events. They are part of the transaction of what they tell, and live after its commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from controlpanel.base import live, statements
from controlpanel.events.models import Event
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import may

KEEP: Final = 5000  # per tenant; Docker keeps the last 256 in memory


def write(
    tenant_id: int, type: str, action: str, actor_id: str, attributes: Mapping[str, str], *, project: str = "", time_ns: int = 0
) -> Event:
    """``project``: the name of what it is about belongs to; ``time_ns``: when it happened, now when 0."""
    event = Event(
        tenant_id=tenant_id,
        time_ns=time_ns or time.time_ns(),
        type=type,
        action=action,
        actor_id=actor_id,
        attributes=dict(attributes),
        project=project,
    )
    statements.insert(event)
    live.on_commit({"kind": "event", "tenant": tenant_id, "id": event.pk, "event": event.to_docker(), "project": project}, event)
    return event


def sight(actor: Actor) -> Callable[[str, str], bool] | None:
    """Whether the actor hears of what happens to a thing (by Docker's word for its kind) in a project; None: of all. Images belong to no
    project; what concerns the tenant itself is for who sees the whole of it."""
    if actor.is_plain:
        return None

    def hears(kind: str, project: str) -> bool:
        if kind in ("container", "volume", "network"):
            return may(actor, f"{kind}.view", project)
        return may(actor, "image.view") if kind == "image" else may(actor, "usage.view")

    return hears


def read(tenant_id: int, *, since_ns: int = 0, until_ns: int = 0, after: int = 0) -> Sequence[Event]:
    """Kept events of [since, until] with an id greater than ``after``, oldest first; 0 = no bound."""
    rows = Event.everywhere.filter(tenant_id=tenant_id).order_by("id")
    if since_ns:
        rows = rows.filter(time_ns__gte=since_ns)
    if until_ns:
        rows = rows.filter(time_ns__lte=until_ns)
    if after:
        rows = rows.filter(id__gt=after)
    return list(rows)


def trim() -> int:
    """Drop what is beyond KEEP per tenant; how many went. The panel worker's schedule calls it."""
    dropped = 0
    for tenant_id in Event.everywhere.values_list("tenant_id", flat=True).distinct():
        rows = Event.everywhere.filter(tenant_id=tenant_id).order_by("-id")
        oldest = rows.values_list("id", flat=True)[KEEP - 1 : KEEP].first()
        if oldest is not None:
            dropped += Event.everywhere.filter(tenant_id=tenant_id, id__lt=oldest).delete()[0]
    return dropped
