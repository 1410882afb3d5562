"""What every act on a container begins with, inside its transaction: the row, and the operation that asks the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlpanel.containers import rows
from controlpanel.containers.models import Container
from controlpanel.containers.projection import no_such_container
from controlpanel.hosts import operations, queries
from controlpanel.hosts.models import Operation
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from engine.errors import InvalidArgument


def tenant_of(actor: Actor) -> Tenant:
    if actor.tenant is None:
        raise InvalidArgument("containers belong to a tenant: none was named")
    return actor.tenant


def row_of(container_id: str) -> Container:
    """Locked. NotFound when it was removed since the actor found it."""
    row = rows.locked(container_id)
    if row is None:
        raise no_such_container(container_id)
    return row


def named(row: Container) -> dict[str, Any]:
    """How tasks name a container."""
    return {"tenant": row.spec["tenant"], "id": row.engine_id}


def begin(
    actor: Actor,
    row: Container,
    verb: str,
    task: str,
    *,
    reserved: operations.Reserved | None = None,
    detail: Mapping[str, Any] | None = None,
    **payload: Any,
) -> Operation:
    """Operation row and audit record, with ``detail``; ``operations.ask`` it when the transaction is committed."""
    host = queries.local_host() if row.host_id == queries.local_host().pk else row.host
    words = {"verb": f"container.{verb}", "object": row.name, "task": task, "key": row.engine_id}
    return operations.begin(actor, host, **words, payload=payload, reserved=reserved, detail=detail)
