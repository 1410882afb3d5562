"""The verbs pause and unpause. The events are told by the rows, when the host's state says so."""

from __future__ import annotations

from controlpanel.base import database
from controlpanel.containers import rows
from controlpanel.containers.acts import begin, named, row_of
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import operations
from controlpanel.hosts.models import Operation
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition
from engine.model import codec
from engine.model.container import ContainerState, Status
from workers import contract


async def pause_container(actor: Actor, name: str) -> None:
    """Ends when no process of it runs any more. FailedPrecondition with moby's sentences."""
    require(actor, "container.pause")
    view = await container(actor, name)
    if view.status is Status.RESTARTING:
        raise FailedPrecondition(f"Container {view.id} is restarting, wait until the container is running")
    if view.status is Status.PAUSED:
        raise FailedPrecondition(f"Container {view.id} is already paused")
    if not view.is_running:
        raise FailedPrecondition(f"container {view.id} is not running")
    await operations.ask(await database.run(_begin, actor, view.id, "pause", contract.PAUSE_CONTAINER))


async def unpause_container(actor: Actor, name: str) -> None:
    """FailedPrecondition when it is not paused."""
    require(actor, "container.pause")
    view = await container(actor, name)
    if view.status is not Status.PAUSED:
        raise FailedPrecondition(f"Container {view.id} is not paused")
    await operations.ask(await database.run(_begin, actor, view.id, "unpause", contract.UNPAUSE_CONTAINER))


def _begin(actor: Actor, container_id: str, verb: str, task: str) -> Operation:
    row = row_of(container_id)
    return begin(actor, row, verb, task, **named(row))


def _answered(operation: Operation, ok: dict[str, object], error: EngineError | None) -> ContainerView | None:
    row = rows.locked(operation.payload["id"])
    if row is None or error is not None:
        return None
    return rows.observe(row, codec.from_json(ContainerState, ok["state"]))


operations.on_answer(contract.PAUSE_CONTAINER, _answered)
operations.on_answer(contract.UNPAUSE_CONTAINER, _answered)
