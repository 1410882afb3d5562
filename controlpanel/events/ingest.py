"""The hosts' facts coming in: one table from EventKind to what it means for rows.

The same event arrives twice by design, on the agent's stream and on queue ``panel``; whichever comes second is no news. Facts
of one object carry rising numbers (``seq``), so an old one never overwrites a newer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

from controlpanel.containers import rows as containers
from controlpanel.containers import services
from controlpanel.containers.models import Container
from controlpanel.containers.recovery import RECALLED
from controlpanel.execs import rows as execs
from controlpanel.images import rows as images
from controlpanel.metrics import traffic
from controlpanel.networks import rows as networks
from controlpanel.tenants.models import Tenant
from controlpanel.volumes import rows as volumes
from engine.config import PUBLIC_TENANT
from engine.model import codec
from engine.model.container import ContainerState
from engine.model.event import Event, EventKind
from engine.model.execution import ExecState
from engine.model.network import NetworkSpec
from engine.model.traffic import Traffic
from engine.model.volume import VolumeSpec

log = logging.getLogger(__name__)

AWAY: Final = (DatabaseError, InterfaceError)  # busy, locked, restarted, full: of these ``give_up`` raises what says nothing of the fact


def news(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of ``events`` that may change something: a cheap look without a transaction, one query for all."""
    ids = {str(data.get("object_id")) for data in events}
    rows = Container.everywhere.filter(engine_id__in=ids).values_list("engine_id", "host_seq", "state__change")
    known = {engine_id: (seq, change or 0) for engine_id, seq, change in rows}
    return [data for data in events if _may_be_news(data, known.get(str(data.get("object_id"))))]


def _may_be_news(data: dict[str, Any], known: tuple[int, int] | None) -> bool:
    kind = data.get("kind")
    if kind in STATES:
        try:
            told = int(data["seq"]), int(data["state"].get("change") or 0)
        except (KeyError, TypeError, ValueError, AttributeError):
            return True  # nonsense: who applies it says so
        return known is not None and known < told
    return kind != EventKind.CONTAINER_REMOVED or known is not None


def apply(data: dict[str, Any]) -> bool:
    """``data`` is an Event as JSON. Call it inside a transaction. Whether it was news."""
    try:
        event = codec.from_json(Event, data)
    except (TypeError, ValueError):
        log.exception("an event nobody understands: %.500r", data)
        return False
    return HANDLERS[event.kind](event)


def give_up(data: dict[str, Any], error: Exception) -> None:
    """After ``apply`` raised ``error``. A fact that can never apply is told in the log, and whoever brought it goes on to the next;
    an error of the database alone is raised again: the fact is as good as before, and must not be lost.
    """
    if isinstance(error, AWAY) and not isinstance(error, (DataError, IntegrityError)):
        raise error
    log.error("a fact that can never apply: %.500r", data, exc_info=error)


def _state(event: Event) -> bool:
    row = _container(event)
    if row is None or event.time_ns < row.state.get(RECALLED, 0):
        return False
    return containers.observe(row, codec.from_json(ContainerState, event.state)) is not None


def _container_removed(event: Event) -> bool:
    row = _container(event)
    if row is None:
        return False
    services.gone(row)
    return True


def _container(event: Event) -> Container | None:
    """The row; None when it was removed, or belongs to another tenant than the host says."""
    row = containers.locked(event.object_id)
    if row is not None and row.spec["tenant"] != event.tenant:
        log.error("host %s tells of container %s as tenant %s's, which it is not", event.host, event.object_id, event.tenant)
        return None
    return row


def _exec_exited(event: Event) -> bool:
    return execs.exited(event.tenant, codec.from_json(ExecState, event.state))


def _image_added(event: Event) -> bool:
    known, tenant_id = _owner(event.tenant)
    if known:
        images.mirror(tenant_id, images.record_from(event.state), event.state.get("refs") or (), time_ns=event.seq)
    return known


def _image_removed(event: Event) -> bool:
    known, tenant_id = _owner(event.tenant)
    if known:
        images.drop(tenant_id, [event.object_id], time_ns=event.seq)
    return known


def _volume_added(event: Event) -> bool:
    known, tenant_id = _owner(event.tenant)
    return tenant_id is not None and known and volumes.mirror(tenant_id, codec.from_json(VolumeSpec, event.state), time_ns=event.seq)


def _network_added(event: Event) -> bool:
    known, tenant_id = _owner(event.tenant)
    return tenant_id is not None and known and networks.restore(tenant_id, codec.from_json(NetworkSpec, event.state))


def _traffic_counted(event: Event) -> bool:
    return traffic.note(codec.from_json(Traffic, event.state), time_ns=event.time_ns)


def _owner(name: str) -> tuple[bool, int | None]:
    """Whether the panel knows this tenant, and its id; None is the public one."""
    if name == PUBLIC_TENANT:
        return True, None
    tenant_id = Tenant.objects.filter(name=name).values_list("pk", flat=True).first()
    return tenant_id is not None, tenant_id


STATES: Final = frozenset(
    {EventKind.CONTAINER_CREATED, EventKind.CONTAINER_STARTED, EventKind.CONTAINER_EXITED, EventKind.CONTAINER_CHANGED}
)
HANDLERS: Final[dict[EventKind, Callable[[Event], bool]]] = {
    EventKind.CONTAINER_CREATED: _state,
    EventKind.CONTAINER_STARTED: _state,
    EventKind.CONTAINER_EXITED: _state,
    EventKind.CONTAINER_CHANGED: _state,
    EventKind.CONTAINER_REMOVED: _container_removed,
    EventKind.EXEC_EXITED: _exec_exited,
    EventKind.IMAGE_ADDED: _image_added,
    EventKind.IMAGE_REMOVED: _image_removed,
    EventKind.VOLUME_ADDED: _volume_added,
    EventKind.NETWORK_ADDED: _network_added,
    EventKind.TRAFFIC_COUNTED: _traffic_counted,
}
