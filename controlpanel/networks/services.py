"""Acts on networks: may they → row, audit and operation in one transaction → the host → its answer in another.

What is returned was applied to the rows before (read your own writes). Sentences are moby's.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from django.db import IntegrityError

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.containers.acts import tenant_of
from controlpanel.events import log as events
from controlpanel.hosts import operations, queries
from controlpanel.hosts import tenants as host_tenants
from controlpanel.hosts.models import Operation
from controlpanel.networks import creation, members, projection, rows
from controlpanel.networks.creation import Asked
from controlpanel.networks.models import Network
from controlpanel.networks.projection import NetworkView, network, networks
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import may, require
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import NETWORKS
from engine.errors import AlreadyExists, EngineError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.model import codec
from engine.model.network import NetworkSpec, check_network
from workers import contract

log = logging.getLogger(__name__)

_pruning: set[int] = set()  # tenants


# -- create ------------------------------------------------------------------------------------------


async def create_network(actor: Actor, body: creation.Object) -> NetworkView:
    """``body`` is Docker's CreateRequest."""
    require(actor, "network.create")
    tenant, asked = tenant_of(actor), creation.read(body)
    require(actor, "network.create", projects.name_of(asked.labels))
    await host_tenants.ensure(tenant)
    try:
        operation = await database.run(_begin_create, actor, tenant, asked)
    except IntegrityError:
        raise AlreadyExists(f"network with name {asked.name} already exists") from None
    await operations.ask(operation)
    return await network(actor, operation.key)


def _begin_create(actor: Actor, tenant: Tenant, asked: Asked) -> Operation:
    account = ledger.account(tenant.pk, projects.name_of(asked.labels))
    account.admit({NETWORKS: 1})
    row = Network(
        tenant=tenant,
        project_id=account.project_id,
        host=queries.local_host(),
        network_id=secrets.token_hex(32),
        name=asked.name,
        internal=asked.internal,
        attachable=asked.attachable,
        icc=asked.icc,
        mtu=asked.mtu,
        asked_pool=codec.to_json(asked.pool),
        pool=codec.to_json(asked.pool),
        asked_ipv6_pool=codec.to_json(asked.ipv6_pool),
        ipv6_pool=codec.to_json(asked.ipv6_pool),
        ipam=asked.ipam,
        options=asked.options,
        labels=asked.labels,
        rules=codec.to_json(asked.rules),
        created_ns=time.time_ns(),
    )
    spec = row.to_spec()
    check_network(spec)
    rows.insert(row)
    return _begin(actor, row, "create", contract.CREATE_NETWORK, {"spec": codec.to_json(spec)}, internal=row.internal, id=row.network_id)


def _begin(actor: Actor, row: Network, verb: str, task: str, payload: dict[str, Any], **detail: Any) -> Operation:
    host = queries.local_host() if row.host_id == queries.local_host().pk else row.host
    return operations.begin(
        actor, host, verb=f"network.{verb}", object=row.name, task=task, key=row.network_id, payload=payload, detail=detail
    )


def _created(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> None:
    row = rows.locked(operation.key)
    if row is None:
        return
    if error is not None:
        rows.delete(row)
        return
    made = codec.from_json(NetworkSpec, ok["spec"])
    row.pool, row.ipv6_pool, row.state = codec.to_json(made.pool), codec.to_json(made.ipv6_pool), Network.READY
    rows.save(row, "pool", "ipv6_pool", "state")
    rows.event(row, "create", time_ns=row.created_ns)


# -- remove ------------------------------------------------------------------------------------------


async def remove_network(actor: Actor, name: str) -> None:
    """Containers that do not run may name it; they cannot be started any more then."""
    require(actor, "network.remove")
    view = await _removable(actor, name)
    if await members.all_of(actor, view):
        ends = " ".join(f'name:"{member.name}" id:"{member.endpoint_id[:12]}"' for member in await members.of(actor, view))
        raise PermissionDenied(f"error while removing network: network {view.name} has active endpoints ({ends})", rule="network.in_use")
    await _remove(actor, view)


async def _removable(actor: Actor, name: str) -> NetworkView:
    if name == "host":  # it exists for nobody here, and can be removed nowhere
        raise PermissionDenied("host is a pre-defined network and cannot be removed", rule="network")
    view = await network(actor, name)
    if not view.user_defined:
        raise PermissionDenied(f"{view.name} is a pre-defined network and cannot be removed", rule="network")
    return view


async def _remove(actor: Actor, view: NetworkView) -> None:
    operation = await database.run(_begin_remove, actor, view.id)
    await operations.ask(operation)


def _begin_remove(actor: Actor, network_id: str) -> Operation:
    row = rows.locked(network_id)
    if row is None:
        raise projection.no_such_network(network_id)
    if row.state == Network.CREATING:
        raise FailedPrecondition(f"network {row.name} is being created: try again when it is done")
    row.state = Network.REMOVING
    rows.save(row, "state")
    return _begin(actor, row, "remove", contract.REMOVE_NETWORK, {"tenant": row.tenant.name, "id": row.network_id})


def _removed(operation: Operation, _ok: dict[str, Any], error: EngineError | None) -> None:
    row = rows.locked(operation.key)
    if row is None:
        return
    if error is not None and not isinstance(error, NotFound):
        row.state = Network.READY
        rows.save(row, "state")
        return
    rows.event(row, "destroy")
    rows.delete(row)


# -- prune -------------------------------------------------------------------------------------------


async def prunable(actor: Actor, test: Callable[[NetworkView], bool] = lambda _view: True) -> list[NetworkView]:
    """What ``prune`` would remove: what the tenant made and no running container is in."""
    require(actor, "network.view")
    used = await members.used(actor)
    return [view for view in await networks(actor) if view.user_defined and view.ready and view.id not in used and test(view)]


async def prune_networks(actor: Actor, test: Callable[[NetworkView], bool] = lambda _view: True) -> list[str]:
    """Names of what was removed. What cannot be removed just now stays, as in moby. One at a time for each tenant."""
    require(actor, "network.prune")
    number, names = actor.tenant_number, []
    if number in _pruning:
        raise FailedPrecondition("a prune operation is already running")
    _pruning.add(number)
    try:
        for view in await prunable(actor, lambda view: may(actor, "network.prune", view.project) and test(view)):
            try:
                await _remove(actor, view)
            except EngineError as error:
                log.info("network %s is not pruned: %s", view.name, error.message)
                continue
            names.append(view.name)
        await database.run(_tell_pruned, actor, len(names))
    finally:
        _pruning.discard(number)
    return names


def _tell_pruned(actor: Actor, count: int) -> None:
    """Also of none: that somebody did it stands in the log."""
    events.write(actor.tenant_number, "network", "prune", "", {"reclaimed": "0"})
    audit.record(actor, "network.prune", tenant_of(actor).name, networks=count)


def check_word(word: str) -> str:
    """How a network is named in a request."""
    if not word:
        raise InvalidArgument('invalid name or ID supplied: ""')
    return word


operations.on_answer(contract.CREATE_NETWORK, _created)
operations.on_answer(contract.REMOVE_NETWORK, _removed)
