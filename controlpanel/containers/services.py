"""Acts on containers: may they → rows, audit and operation in one transaction → the host → its answer in another.

What is returned was applied to row and projection before (read your own writes). Sentences are moby's. A caller that goes
away (a client's Ctrl-C) leaves the act under way: the host's answer or the sweeper finishes it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import signal as signals
import time
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError

from controlpanel.base import database, statements
from controlpanel.containers import admission, belonging, names, projection, recovery, references, request, rows
from controlpanel.containers.acts import begin, named, row_of, tenant_of
from controlpanel.containers.fields import text
from controlpanel.containers.models import Container, Desired
from controlpanel.containers.permitted import permitted
from controlpanel.containers.projection import ContainerView, container
from controlpanel.hosts import machine, operations, queries
from controlpanel.hosts import tenants as host_tenants
from controlpanel.hosts.models import Host, Operation
from controlpanel.images import projection as images
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require
from controlpanel.volumes import rows as volumes
from engine.errors import AlreadyExists, EngineError, FailedPrecondition, InvalidArgument, NotFound
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState, Status, check_name, removal_refusal
from engine.model.platform import check_platform
from engine.model.signals import signal_number
from workers import contract

_NAME_ATTEMPTS: Final = 20
SIGKILL: Final = int(signals.SIGKILL)
KILL_WAIT_S: Final = 10.0  # until SIGKILL shows; then the answer is given anyway, as moby does


@dataclass(frozen=True, slots=True)
class Created:
    """``id`` of the new container and moby's ``Warnings``."""

    view: ContainerView
    warnings: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.view.id


# -- create ------------------------------------------------------------------------------------------


async def create_container(actor: Actor, body: dict[str, Any], *, name: str = "", platform: str = "") -> Created:
    """``body`` is Docker's ContainerCreateRequest (Config members, HostConfig, NetworkingConfig); no name: one is made up.

    An image for another platform than the one that is asked for counts as none (NotFound), so that clients pull the right one.
    """
    require(actor, "container.create")
    tenant = tenant_of(actor)
    name = name.removeprefix("/")
    if name:
        check_name(name)
    words = text(body, "Image")
    if not words:
        raise InvalidArgument("config cannot be empty in order to create a container: Image is missing")
    image = await images.image(actor, words)
    check_platform(image.record.config, platform, words)
    await host_tenants.ensure(tenant)
    body, named = await references.resolve(actor, body)
    asked = request.read(
        body,
        donors=await references.donors(actor, body),
        images=await references.images(actor, body),
        container_id=secrets.token_hex(32),
        tenant=tenant.name,
        name=name,
        image_id=image.id,
        image_config=image.record.config,
        machine=machine.here(),
        references=named,
    )
    require(actor, "container.create", projects.name_of(asked.spec.labels))
    operation = await _named_and_begun(actor, tenant, asked)
    view = await operations.ask(operation) or await container(actor, asked.spec.id)
    return Created(view, asked.warnings)


async def _named_and_begun(actor: Actor, tenant: Tenant, asked: request.Asked) -> Operation:
    """The constraint of the table decides who has a name; a made-up one that is taken is made up again."""
    for _ in range(_NAME_ATTEMPTS):
        name = asked.spec.name or names.random_name()
        try:
            return await database.run(_begin_create, actor, tenant, asked, name)
        except IntegrityError:
            if asked.spec.name:
                break
    raise await database.read(_name_taken, actor, name)


def _begin_create(actor: Actor, tenant: Tenant, asked: request.Asked, name: str) -> Operation:
    admitted = admission.admit_create(tenant, permitted(tenant, belonging.volumes_of(actor, asked.spec)))
    spec = dataclasses.replace(admitted.spec, name=name)
    row = _new_row(tenant, queries.local_host(), asked, spec, admitted.project_id)
    statements.insert(row)
    reserved = None
    if admitted.new_volumes:
        reserved = operations.Reserved(volumes=admitted.new_volumes, disk_bytes=admitted.new_volume_bytes, project=admitted.project_id)
    payload = {"spec": {**row.spec, "shown": recovery.shown(row)}}
    detail = {"image": spec.image, "id": spec.id}
    operation = begin(actor, row, "create", contract.CREATE_CONTAINER, reserved=reserved, detail=detail, **payload)
    rows.tell(row)
    return operation


def _new_row(tenant: Tenant, host: Host, asked: request.Asked, spec: ContainerSpec, project_id: int | None) -> Container:
    return rows.new(
        tenant,
        host,
        spec,
        config=asked.config,
        host_config=asked.host_config,
        network_names=asked.network_names,
        project_id=project_id,
        created_at_ns=time.time_ns(),
    )


def _name_taken(actor: Actor, name: str) -> AlreadyExists:
    """By whom is said to who knows of that one: names are the tenant's, whatever project has them."""
    holder = Container.objects.for_actor(actor).filter(name=name).values_list("engine_id", flat=True).first() or ""
    return AlreadyExists(
        f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name.",
        container=holder,
    )


def _created(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    row = rows.locked(operation.payload["spec"]["id"])
    if row is None:
        return None
    if error is not None:
        rows.delete(row)
        return None
    volumes.put_all(row.tenant_id, ok.get("volumes") or ())
    view = rows.observe(row, codec.from_json(ContainerState, ok["state"]))
    rows.event(row, "create", time_ns=row.created_at_ns)
    return view


# -- start, stop, kill -------------------------------------------------------------------------------


async def start_container(actor: Actor, name: str) -> bool:
    """False when it runs already. A command that is not there is the host's error, with ``detail["exit_code"]`` 126 or 127."""
    require(actor, "container.start")
    view = await container(actor, name)
    if view.status is Status.PAUSED:
        raise FailedPrecondition("cannot start a paused container, try unpause instead")
    if view.is_running:
        return False
    operation = await database.run(_begin_start, actor, view.id)
    await operations.ask(operation)
    return True


def _begin_start(actor: Actor, container_id: str) -> Operation:
    row = row_of(container_id)
    if row.desired == Desired.REMOVED:
        raise FailedPrecondition("container is marked for removal and cannot be started")
    admission.admit_start(row)
    row.desired = Desired.RUNNING
    rows.save(row, "desired")
    return begin(actor, row, "start", contract.START_CONTAINER, **named(row))


def started(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    """The answer to a start, and to a restart."""
    row = rows.locked(operation.payload["id"])
    if row is None:
        return None
    if error is None:
        return rows.observe(row, codec.from_json(ContainerState, ok["state"]))
    if "exit_code" in error.detail:
        return rows.failed_start(row, error.message, int(error.detail["exit_code"]))
    row.desired = Desired.RUNNING if ContainerView(row).is_running else Desired.STOPPED
    return rows.save(row, "desired")


async def stop_container(actor: Actor, name: str, *, signal: str = "", timeout_s: int | None = None) -> bool:
    """Ends when it has ended. False when it did not run. ``timeout_s`` None: the container's own; negative: no SIGKILL follows."""
    require(actor, "container.stop")
    if signal:
        signal_number(signal)
    view = await container(actor, name)
    if not view.is_running:
        return False
    ended = await projection.wait(actor, view.id, projection.NEXT_EXIT)  # registered before the signal is sent
    try:
        await _signal(await database.run(_begin_stop, actor, view.id, signal or view.spec.stop_signal, timeout_s))
        await ended
        while (now := projection.peek(view.tenant_id, view.id)) and now.is_running and now.desired == Desired.STOPPED:
            ended = await projection.wait(actor, view.id, projection.NEXT_EXIT)  # its policy was faster, and that run is stopped, too
            await ended
    finally:
        ended.cancel()
    await database.run(_tell_stopped, view.id)
    return True


async def signal_stop(actor: Actor, container_id: str) -> None:
    """Its stop has begun when this returns, and nobody waits for its end."""
    require(actor, "container.stop")
    row = await database.read(lambda: Container.objects.for_actor(actor).filter(engine_id=container_id).first())
    if row is not None:
        await _signal(await database.run(_begin_stop, actor, container_id, row.to_spec().stop_signal, None))


def _begin_stop(actor: Actor, container_id: str, signal: str, timeout_s: int | None) -> Operation:
    row = row_of(container_id)
    row.desired = Desired.STOPPED
    rows.save(row, "desired")
    tell_kill(row, signal)
    return begin(actor, row, "stop", contract.STOP_CONTAINER, **named(row), signal=signal, timeout_s=timeout_s, detail={"signal": signal})


def tell_kill(row: Container, signal: str) -> None:
    """The event of a stop's first signal ("": the container's own). What waits for its restart has nobody to send it to."""
    if row.status != Status.RESTARTING.value:
        rows.event(row, "kill", signal=str(signal_number(signal or row.spec["stop_signal"])))


def _tell_stopped(container_id: str) -> None:
    row = Container.everywhere.filter(engine_id=container_id).first()
    if row is not None:
        rows.event(row, "stop")


def _stopped(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    row = rows.locked(operation.payload["id"])
    if row is None or error is not None or not ok.get("state"):
        return None
    return rows.observe(row, codec.from_json(ContainerState, ok["state"]))


async def kill_container(actor: Actor, name: str, number: int = SIGKILL) -> None:
    """Send a signal. After SIGKILL the answer waits for the exit."""
    require(actor, "container.kill")
    view = await container(actor, name)
    if not view.is_running:
        raise _not_running(view.id)
    ended = await projection.wait(actor, view.id)
    try:
        operation = await database.run(_begin_kill, actor, view.id, number)
        try:
            await operations.ask(operation)
        except FailedPrecondition:
            raise _not_running(view.id) from None
        if number == SIGKILL:
            await asyncio.wait([ended], timeout=KILL_WAIT_S)
    finally:
        ended.cancel()


def _begin_kill(actor: Actor, container_id: str, number: int) -> Operation:
    row = row_of(container_id)
    tell_kill(row, str(number))
    return begin(actor, row, "kill", contract.KILL_CONTAINER, **named(row), signal=number, detail={"signal": number})


def _not_running(container_id: str) -> FailedPrecondition:
    return FailedPrecondition(f"container {container_id} is not running")


async def _signal(operation: Operation) -> None:
    """A container that ended by itself meanwhile is what was wanted."""
    try:
        await operations.ask(operation)
    except FailedPrecondition:
        pass


# -- rename, remove ----------------------------------------------------------------------------------


async def rename_container(actor: Actor, name: str, new_name: str) -> None:
    require(actor, "container.rename")
    new_name = new_name.removeprefix("/")
    if not new_name:
        raise InvalidArgument("Neither old nor new names may be empty")
    check_name(new_name)
    view = await container(actor, name)
    if view.name == new_name:
        raise InvalidArgument("Renaming a container with the same name as its current name")
    try:
        operation = await database.run(_begin_rename, actor, view.id, new_name)
    except IntegrityError:
        raise await database.read(_name_taken, actor, new_name) from None
    await operations.ask(operation)


def _begin_rename(actor: Actor, container_id: str, new_name: str) -> Operation:
    """The new name is held by the row at once; the spec keeps the old one until the host has agreed."""
    row = row_of(container_id)
    change = {"before": row.name, "after": new_name}
    row.name = new_name
    rows.save(row, "name")
    return begin(actor, row, "rename", contract.RENAME_CONTAINER, **named(row), name=new_name, detail=change)


def _renamed(operation: Operation, _ok: dict[str, Any], error: EngineError | None) -> ContainerView | None:
    row = rows.locked(operation.payload["id"])
    if row is None:
        return None
    old_name = row.spec["name"]
    if error is not None:
        row.name = old_name
        return rows.save(row, "name")
    rows.put(row, {"name": operation.payload["name"]})
    rows.event(row, "rename", oldName=f"/{old_name}")
    return rows.save(row, "spec")


async def remove_container(actor: Actor, name: str, *, force: bool = False, volumes: bool = False) -> None:
    """A running one only with ``force``, which kills it. The name is free when this returns. ``volumes``: with its anonymous ones."""
    require(actor, "container.remove")
    view = await container(actor, name)
    if view.is_running and not force:
        raise FailedPrecondition(removal_refusal(name, view.status))
    await operations.ask(await database.run(_begin_remove, actor, view.id, force, volumes))


def _begin_remove(actor: Actor, container_id: str, force: bool, volumes: bool) -> Operation:
    row = row_of(container_id)
    if row.desired == Desired.REMOVED and _removal_under_way(row):
        raise FailedPrecondition(f"removal of container {container_id} is already in progress")
    row.desired = Desired.REMOVED
    rows.save(row, "desired")
    if force and row.to_state().has_process:
        tell_kill(row, "KILL")
    words = {"force": force, "volumes": volumes}
    return begin(actor, row, "remove", contract.REMOVE_CONTAINER, **named(row), **words, detail={**words, "id": row.engine_id})


def _removal_under_way(row: Container) -> bool:
    asked = Operation.everywhere.filter(key=row.engine_id, task=contract.REMOVE_CONTAINER, state=Operation.QUEUED)
    return asked.exists()


def _removed(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> None:
    row = rows.locked(operation.payload["id"])
    if operation.tenant_id is not None:
        for name in ok.get("volumes") or ():
            volumes.drop(operation.tenant_id, name)
    if row is None:
        return
    if error is not None and not isinstance(error, NotFound):
        row.desired = Desired.RUNNING if ContainerView(row).is_running else Desired.STOPPED
        rows.save(row, "desired")
        return
    gone(row)


def gone(row: Container) -> None:
    """The host has it no more."""
    rows.event(row, "destroy")
    rows.delete(row)


# -- wait --------------------------------------------------------------------------------------------


async def wait(actor: Actor, name: str, condition: str = projection.NOT_RUNNING) -> asyncio.Future[ContainerState]:
    """A registered future of the state when ``condition`` (not-running, next-exit, removed) holds; cancel it to give up."""
    require(actor, "container.view")
    return await projection.wait(actor, name, condition)


operations.on_answer(contract.CREATE_CONTAINER, _created)
operations.on_answer(contract.START_CONTAINER, started)
operations.on_answer(contract.STOP_CONTAINER, _stopped)
operations.on_answer(contract.KILL_CONTAINER, _stopped)
operations.on_answer(contract.RENAME_CONTAINER, _renamed)
operations.on_answer(contract.REMOVE_CONTAINER, _removed)
