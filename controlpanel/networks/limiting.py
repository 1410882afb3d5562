"""Allow-lists of networks and containers, and how fast these may talk (not in Docker): row, audit and operation, the host, its answer.

The row follows the host's answer, so a change that fails leaves the old list everywhere.
"""

from __future__ import annotations

from typing import Any

from controlpanel.base import database
from controlpanel.containers import acts
from controlpanel.containers import rows as containers
from controlpanel.containers.models import Desired
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import operations, queries
from controlpanel.hosts.models import Operation
from controlpanel.networks import rows
from controlpanel.networks.models import Network
from controlpanel.networks.projection import NetworkView, network, no_such_network
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition, Unsupported
from engine.model import codec
from engine.model.bandwidth import Bandwidth, check_bandwidth
from engine.model.container import ContainerState
from engine.model.rules import Rules
from workers import contract


async def limit_network(actor: Actor, name: str, rules: Rules) -> NetworkView:
    require(actor, "network.rules")
    view = await network(actor, name)
    if not view.user_defined:
        raise Unsupported(f"{view.name} is everybody's and has no lists: give them to the container, or to a network of your own")
    await operations.ask(await database.run(_begin_network, actor, view.id, rules))
    return await network(actor, view.id)


def _begin_network(actor: Actor, network_id: str, rules: Rules) -> Operation:
    row = rows.locked(network_id)
    if row is None:
        raise no_such_network(network_id)
    if row.state != Network.READY:
        raise FailedPrecondition(f"network {row.name} is being created or removed: try again when it is done")
    host = queries.local_host() if row.host_id == queries.local_host().pk else row.host
    payload = {"tenant": row.tenant.name, "id": row.network_id, "rules": codec.to_json(rules)}
    return operations.begin(
        actor,
        host,
        verb="network.rules",
        object=row.name,
        task=contract.LIMIT_NETWORK,
        key=row.network_id,
        payload=payload,
        detail={"before": row.rules, "after": payload["rules"]},
    )


def _network_answered(operation: Operation, _ok: dict[str, Any], error: EngineError | None) -> None:
    row = rows.locked(operation.key)
    if row is not None and error is None:
        row.rules = operation.payload["rules"]
        rows.save(row, "rules")


async def limit_container(actor: Actor, name: str, rules: Rules) -> ContainerView:
    require(actor, "container.rules")
    return await _change(actor, name, "rules", contract.LIMIT_CONTAINER, rules=codec.to_json(rules))


async def shape_container(actor: Actor, name: str, bandwidth: Bandwidth) -> ContainerView:
    require(actor, "container.bandwidth")
    check_bandwidth(bandwidth)
    return await _change(actor, name, "bandwidth", contract.SHAPE_CONTAINER, bandwidth=codec.to_json(bandwidth))


async def _change(actor: Actor, name: str, verb: str, task: str, **words: Any) -> ContainerView:
    view = await container(actor, name)
    if view.spec.network_mode not in ("bridge", "user"):
        raise FailedPrecondition(f"container {view.name} has no network of its own: there is nothing to limit")

    def begin() -> Operation:
        row = acts.row_of(view.id)
        if row.desired == Desired.REMOVED:
            raise FailedPrecondition(f"container is marked for removal and its {verb} cannot be changed")
        change = {"before": row.spec.get(verb), "after": words[verb]}
        return acts.begin(actor, row, verb, task, **acts.named(row), **words, detail=change)

    await operations.ask(await database.run(begin))
    return await container(actor, view.id)


def _container_answered(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    row = containers.locked(operation.payload["id"])
    if row is None or error is not None:
        return None
    row.spec = {**row.spec, **{name: operation.payload[name] for name in ("rules", "bandwidth") if name in operation.payload}}
    containers.event(row, "update")
    containers.save(row, "spec")
    return containers.observe(row, codec.from_json(ContainerState, ok["state"]))


operations.on_answer(contract.LIMIT_NETWORK, _network_answered)
operations.on_answer(contract.LIMIT_CONTAINER, _container_answered)
operations.on_answer(contract.SHAPE_CONTAINER, _container_answered)
