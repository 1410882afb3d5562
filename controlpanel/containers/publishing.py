"""Changing the ports of a container, also of one that runs, without making it anew (not in Docker).

The row follows the host's answer, so a change that fails leaves the old ports everywhere. One change of a container at a time.
"""

from __future__ import annotations

from typing import Any

from controlpanel.base import database
from controlpanel.containers import admission, ports, rows
from controlpanel.containers.acts import begin, named, row_of, tenant_of
from controlpanel.containers.fields import Object
from controlpanel.containers.models import Container, Desired
from controlpanel.containers.permitted import permitted_ports
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import operations
from controlpanel.hosts.models import Operation
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition
from engine.model import codec
from engine.model.container import ContainerState
from workers import contract


async def publish_ports(actor: Actor, name: str, port_bindings: Object) -> None:
    """``port_bindings``: Docker's PortBindings, all that shall be published from now on."""
    require(actor, "container.update")
    view = await container(actor, name)
    if view.spec.network_mode not in ("bridge", "user"):
        raise FailedPrecondition(f"container {view.name} has no network of its own: nothing can lead to its ports")
    asked = {"PortBindings": dict(port_bindings)}
    ports.read({}, asked)  # for an early answer
    await operations.ask(await database.run(_begin, actor, view.id, asked))


def _begin(actor: Actor, container_id: str, asked: dict[str, Any]) -> Operation:
    row = row_of(container_id)
    if row.desired == Desired.REMOVED:
        raise FailedPrecondition("container is marked for removal and its ports cannot be changed")
    if _is_under_way(row):
        raise FailedPrecondition("another change of its ports is under way, try again when it is done")
    bindings = permitted_ports(tenant_of(actor), ports.read({}, asked))
    admission.admit_change(row, {"ports": len(bindings)})
    row.ports = max(row.ports, len(bindings))
    rows.save(row, "ports")
    payload = {"ports": [codec.to_json(binding) for binding in bindings], "shown": asked["PortBindings"]}
    change = {"before": row.docker_host_config.get("PortBindings") or {}, "after": asked["PortBindings"]}
    return begin(actor, row, "publish", contract.PUBLISH_PORTS, **named(row), **payload, detail=change)


def _is_under_way(row: Container) -> bool:
    asked = Operation.everywhere.filter(key=row.engine_id, task=contract.PUBLISH_PORTS, state=Operation.QUEUED)
    return bool(asked.exists())


def _answered(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    row, words = rows.locked(operation.payload["id"]), operation.payload
    if row is None:
        return None
    row.ports = len(row.spec.get("ports") or () if error is not None else words["ports"])
    if error is not None:
        return rows.save(row, "ports")
    row.docker_host_config = {**row.docker_host_config, "PortBindings": words["shown"], "PublishAllPorts": False}
    row.spec = {**row.spec, "ports": words["ports"]}
    rows.event(row, "update")
    rows.save(row, "docker_host_config", "spec", "ports")
    return rows.observe(row, codec.from_json(ContainerState, ok["state"]))


operations.on_answer(contract.PUBLISH_PORTS, _answered)
