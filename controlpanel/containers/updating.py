"""``docker update``: new limits and restart policy for a container that exists, at once where it runs.

The row follows the host's answer, so an update that fails leaves the old values everywhere. Meanwhile the greater of old and new
counts for the tenant's sums, and a second update of the same container has to wait: each is laid over what the row says.
"""

from __future__ import annotations

from typing import Any, Final

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.containers import admission, limits, options, policies, rows
from controlpanel.containers.acts import begin, named, row_of
from controlpanel.containers.fields import Object, flag, obj, text
from controlpanel.containers.models import Container, Desired
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import machine, operations
from controlpanel.hosts.models import Operation
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition
from engine.model import codec
from engine.model.resources import Resources
from workers import contract

_SUMS: Final = ("memory_bytes", "swap_bytes", "nano_cpus", "pids", "layer_bytes")  # columns of the row


async def update_container(actor: Actor, name: str, changes: Object) -> tuple[str, ...]:
    """``changes`` is Docker's UpdateConfig: members of HostConfig, of which empty ones stay as they are. moby's warnings."""
    require(actor, "container.update")
    view = await container(actor, name)
    asked = limits.read(changes, machine.here(), update=True)
    changes = {key: value for key, value in changes.items() if key not in asked.discarded}
    try:
        operation = await database.run(_begin, actor, view.id, changes)
    except FailedPrecondition as error:
        raise FailedPrecondition(f"Cannot update container {view.id}: {error.message}", **error.detail) from error
    await operations.ask(operation)
    return asked.warnings


def _begin(actor: Actor, container_id: str, changes: Object) -> Operation:
    row = row_of(container_id)
    if row.desired == Desired.REMOVED:
        raise FailedPrecondition('container is marked for removal and cannot be "update"')
    if Operation.everywhere.filter(key=row.engine_id, task=contract.UPDATE_CONTAINER, state=Operation.QUEUED).exists():
        raise FailedPrecondition("another update of it is under way, try again when it is done")
    host_config = limits.merge(row.docker_host_config, changes)
    resources = limits.read(host_config, machine.here()).resources
    restart = None
    if text(obj(changes, "RestartPolicy"), "Name"):
        policy = policies.restart_policy(changes, row.spec.get("labels") or {})
        if flag(host_config, "AutoRemove") and policy.name != "no":
            raise FailedPrecondition("Restart policy cannot be updated because AutoRemove is enabled for the container")
        host_config["RestartPolicy"] = changes["RestartPolicy"]
        restart = codec.to_json(policy)
    if size := options.layer_size(changes):
        host_config["StorageOpt"] = changes["StorageOpt"]
    _reserve(row, {**admission.resource_columns(resources), "layer_bytes": size or row.layer_bytes})
    payload = {"resources": codec.to_json(resources), "restart": restart, "host_config": host_config, "layer_size_bytes": size}
    return begin(actor, row, "update", contract.UPDATE_CONTAINER, **named(row), **payload, detail=_change(row, payload))


def _change(row: Container, payload: Object) -> dict[str, Any]:
    asked = {**payload["resources"], **{name: payload[name] for name in ("restart", "layer_size_bytes") if payload[name]}}
    return audit.changed({name: {**row.spec["resources"], **row.spec}.get(name) for name in asked}, asked)


def _reserve(row: Container, columns: dict[str, int]) -> None:
    """QuotaExceeded when the limits don't leave room for the new values."""
    admission.admit_change(row, columns)
    for column, value in columns.items():
        setattr(row, column, max(value, getattr(row, column)))
    rows.save(row, *_SUMS)


def _set_sums(row: Container, resources: Resources, layer_bytes: int) -> None:
    for column, value in admission.resource_columns(resources).items():
        setattr(row, column, value)
    row.layer_bytes = layer_bytes


def _answered(operation: Operation, _ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    row, words = rows.locked(operation.payload["id"]), operation.payload
    if row is None:
        return None
    if error is not None:
        _set_sums(row, row.to_spec().resources, row.spec.get("layer_size_bytes", 0))
        return rows.save(row, *_SUMS)
    _set_sums(row, codec.from_json(Resources, words["resources"]), words.get("layer_size_bytes") or row.spec.get("layer_size_bytes", 0))
    row.docker_host_config = words["host_config"]
    row.spec = {**row.spec, "resources": words["resources"]}
    if words.get("layer_size_bytes"):
        row.spec |= {"layer_size_bytes": words["layer_size_bytes"], "layer_size_is_part": False}
    if words["restart"]:
        row.spec["restart"] = words["restart"]
    rows.event(row, "update")
    return rows.save(row, "docker_host_config", "spec", *_SUMS)


operations.on_answer(contract.UPDATE_CONTAINER, _answered)
