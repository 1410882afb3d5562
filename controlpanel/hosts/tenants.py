"""Tenants as the hosts know them: an id range, a subnet, a wall of limits. Made when first needed, or at once by the command."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings

from controlpanel.accounts.models import User
from controlpanel.base import database
from controlpanel.hosts import operations, queries
from controlpanel.hosts.models import Host, Operation
from controlpanel.tenants import services as rows
from controlpanel.tenants.actor import Actor, system
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require
from controlpanel.tenants.policy import Policy
from engine import errors
from engine.model import codec
from workers import contract

log = logging.getLogger(__name__)

ENSURE_WITHIN_S: Final = 3.0  # a platform that is down does not keep the command waiting


async def create_tenant(actor: Actor, name: str, *, owner: User | None = None, **limits: int) -> Tenant:
    """The tenant and its place on the host. While the platform is down the place is made at the first container instead."""
    tenant = await database.run(rows.create_tenant, actor, name, owner=owner, **limits)
    await _ensure_or_later(actor, tenant)
    return tenant


async def change_limits(actor: Actor, tenant: Tenant, **limits: int) -> Tenant:
    """New limits hold at once for what runs already; while the platform is down, from the next container on."""
    tenant = await database.run(rows.change_limits, actor, tenant, **limits)
    await _ensure_or_later(actor, tenant)
    return tenant


async def change_policy(actor: Actor, name: str, change: Callable[[Policy], Policy]) -> Tenant:
    """Of what the host looks at by itself (registries, new privileges), as ``change_limits``."""
    tenant = await database.run(rows.change_policy, actor, name, change)
    await _ensure_or_later(actor, tenant)
    return tenant


async def remove_from_hosts(actor: Actor, tenant: Tenant) -> dict[str, dict[str, Any]]:
    """Host → what it had of the tenant and what it has left (engine.remains). Also what no row knows of goes."""
    require(actor, "tenant.delete")
    begun = await database.run(_begin_removal, actor, tenant)
    return {operation.host.name: await operations.ask(operation) or {} for operation in begun}


async def ensure(tenant: Tenant) -> None:
    """The tenant exists on the local host when this returns. A dictionary look-up when it did already."""
    if settings.SLIPWAY_HOST in tenant.hosts:
        return
    host = await database.read(queries.local_host)
    await operations.ask(await database.run(_begin_ensure, system(tenant), tenant, host))


async def _ensure_or_later(actor: Actor, tenant: Tenant) -> None:
    try:
        host = await database.read(queries.local_host)
        await operations.ask(await database.run(_begin_ensure, actor, tenant, host), timeout_s=ENSURE_WITHIN_S)
    except errors.Unavailable as error:
        await database.run(_not_there_yet, tenant)
        log.warning("tenant %s: %s; its place on the host is made with its first container", tenant.name, error.message)


def _not_there_yet(tenant: Tenant) -> None:
    """So that the next ``ensure`` carries the limits."""
    tenant.hosts = {}
    tenant.save(update_fields=["hosts"])


def _begin_ensure(actor: Actor, tenant: Tenant, host: Host) -> Operation:
    tenant.refresh_from_db(fields=["policy_words"])  # whoever changed it last has told the host, or is about to
    payload = {
        "tenant": tenant.name,
        "limits": codec.to_json(tenant.wall()),
        "force_no_new_privileges": not tenant.policy.new_privileges,
        "registries": tenant.policy.registries,
        "bandwidth": codec.to_json(tenant.bandwidth()),
        "log_bytes": tenant.log_bytes,
    }
    operation = operations.begin(
        Actor(door=actor.door, tenant=tenant, user=actor.user, name=actor.name),
        host,
        verb="tenant.ensure",
        object=tenant.name,
        task=contract.ENSURE_TENANT,
        key=f"tenant:{tenant.name}",
        payload=payload,
        audited=False,
    )
    operation.tenant = tenant
    return operation


def _begin_removal(actor: Actor, tenant: Tenant) -> list[Operation]:
    return [
        operations.begin(
            Actor(door=actor.door, tenant=tenant, user=actor.user, name=actor.name),
            host,
            verb="tenant.delete",
            object=tenant.name,
            task=contract.REMOVE_TENANT,
            key=f"tenant:{tenant.name}",
            payload={"tenant": tenant.name},
            audited=False,
        )
        for host in Host.objects.filter(name__in=tenant.hosts)
    ]


def _ensured(operation: Operation, ok: dict[str, Any], error: errors.EngineError | None) -> None:
    tenant = operation.tenant
    if error is None and tenant is not None:
        tenant.hosts = {**tenant.hosts, operation.host.name: ok.get("host") or {}}
        tenant.save(update_fields=["hosts"])


def _removed(_operation: Operation, ok: dict[str, Any], _error: errors.EngineError | None) -> dict[str, Any]:
    return ok


operations.on_answer(contract.ENSURE_TENANT, _ensured)
operations.on_answer(contract.REMOVE_TENANT, _removed)
