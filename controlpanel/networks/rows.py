"""Network rows, and what they tell: each function belongs inside a transaction."""

from __future__ import annotations

import logging

from controlpanel.base import live, statements
from controlpanel.events import log
from controlpanel.events.models import Event
from controlpanel.hosts import queries
from controlpanel.networks.models import Network
from controlpanel.tenants import projects
from engine.model import codec
from engine.model.network import NetworkSpec

logger = logging.getLogger(__name__)


def locked(network_id: str) -> Network | None:
    """The row, which nobody else changes until the transaction ends (SQLite has one writer anyway)."""
    return statements.get(Network, "network_id", network_id, lock=True)


def insert(row: Network) -> None:
    statements.insert(row)
    tell(row)


def save(row: Network, *fields: str) -> None:
    statements.update(row, *fields)
    tell(row)


def delete(row: Network) -> None:
    statements.delete(row)
    projects.left(row.tenant_id, row.project_id)
    tell(row)


def tell(row: Network) -> None:
    live.on_commit({"kind": "network", "tenant": row.tenant_id, "id": row.network_id})


def event(row: Network, action: str, *, time_ns: int = 0, **attributes: str) -> None:
    """Docker's network event: name and type are always attributes."""
    words, project = {**attributes, "name": row.name, "type": row.driver}, projects.name_of(row.labels)
    log.write(row.tenant_id, "network", action, row.network_id, words, project=project, time_ns=time_ns)


def restore(tenant_id: int, spec: NetworkSpec) -> bool:
    """A row that was lost in a power cut comes back from what the host has, to the very tenant whom it was made for, unless it was
    removed. Whether it did."""
    shown = spec.shown
    if shown.get("tenant") != tenant_id or locked(spec.id) is not None:
        return False
    if Event.everywhere.filter(tenant_id=tenant_id, type="network", action="destroy", actor_id=spec.id).exists():
        return False
    if Network.everywhere.filter(tenant_id=tenant_id, name=spec.name).exists():
        logger.warning("network %s (%s) has no row, and gets none: another one has its name", spec.name, spec.id[:12])
        return False
    row = Network(
        tenant_id=tenant_id,
        project_id=projects.number_of(tenant_id, shown["labels"]),
        host=queries.local_host(),
        network_id=spec.id,
        name=spec.name,
        internal=spec.internal,
        attachable=bool(shown["attachable"]),
        icc=spec.icc,
        mtu=spec.mtu,
        asked_pool=shown["asked_pool"],
        pool=codec.to_json(spec.pool),
        asked_ipv6_pool=shown.get("asked_ipv6_pool"),
        ipv6_pool=codec.to_json(spec.ipv6_pool),
        ipam=shown["ipam"],
        options=shown["options"],
        labels=shown["labels"],
        state=Network.READY,
        created_ns=int(shown["created_ns"]),
    )
    insert(row)
    logger.warning("network %s (%s): its row was lost, and is back", spec.name, spec.id[:12])
    return True


def gone(network_id: str) -> None:
    """The host has lost it, and nobody is just acting on it."""
    row = locked(network_id)
    if row is not None and row.state == Network.READY:
        logger.warning("network %s (%s) is gone from its host", row.name, network_id[:12])
        event(row, "destroy")
        delete(row)
