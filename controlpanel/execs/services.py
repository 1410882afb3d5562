"""Acts: create, start, resize, look. An exec is created by one request and started by another, as Docker has it."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from controlpanel.audit import services as audit
from controlpanel.base import database, statements, turns
from controlpanel.containers import projection as containers
from controlpanel.containers import rows as container_rows
from controlpanel.containers.models import Container
from controlpanel.containers.projection import ContainerView
from controlpanel.execs import projection, rows
from controlpanel.execs.models import Exec
from controlpanel.execs.projection import ExecView
from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition, InvalidArgument, NotFound, QuotaExceeded, Unavailable
from engine.model import codec, keys
from engine.model.container import Status
from engine.model.execution import ExecSpec, ExecState

CANNOT_RUN: Final = 126  # the exit code of one that could not be started, as dockerd shows it
ACTIVE_MAX: Final = 1000  # execs of one container that have not ended
_SURE_DIGITS: Final = 9  # a larger number may be above the last id
_EXIT_WORD_S: Final = 10.0  # the host's word follows a command's end within milliseconds


class Started(NamedTuple):
    """The agent's stream: output down (framed, or raw of a tty), input up. The caller closes the writer."""

    view: ExecView
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def create(actor: Actor, name: str, asked: ExecSpec, *, detach_keys: str = "") -> ExecView:
    """``asked.id`` is made here. FailedPrecondition while the container does not run."""
    require(actor, "container.exec")
    if detach_keys:
        keys.parse(detach_keys)
    container = await containers.container(actor, name)
    if not asked.args:
        raise InvalidArgument("No exec command specified")
    check_active(container, name)
    await _check_user(container, asked.user)
    if len(await projection.active(actor, container.id)) >= ACTIVE_MAX:
        raise QuotaExceeded(f"container {container.name} has {ACTIVE_MAX} commands that run or were never started: no more are taken")
    asked = dataclasses.replace(asked, id=secrets.token_hex(32), quiet=False)
    return await database.run(_create, actor, container.id, asked, detach_keys)


async def _check_user(container: ContainerView, words: str) -> None:
    """Refused with moby's sentence, and at the create as moby does, when the container has no such user or group. Numbers need not be
    known to anybody."""
    if words and not all(word.isdecimal() and len(word) <= _SURE_DIGITS for word in words.split(":")):
        _ok, _reader, writer = await open_stream("user", container.spec.tenant, container.id, user=words)
        writer.close()


def _create(actor: Actor, container_id: str, asked: ExecSpec, detach_keys: str) -> ExecView:
    container = container_rows.locked(container_id)
    if container is None:
        raise containers.no_such_container(container_id)
    row = Exec(
        tenant_id=container.tenant_id,
        container=container_id,
        exec_id=asked.id,
        spec=codec.to_json(asked),
        detach_keys=detach_keys,
        created_at_ns=time.time_ns(),
    )
    statements.insert(row)
    words = {"command": rows.command(asked)[:300], "user": asked.user}
    audit.record(actor, "container.exec", container.name, exec=asked.id, **words)
    rows.event(container, f"exec_create: {rows.command(asked)}", asked.id)
    return rows.tell(row)


async def start(actor: Actor, exec_id: str, *, detached: bool = False, hang_up: bool = False, console_size: Sequence[int] = ()) -> Started:
    """Runs it. ``hang_up``: without its client it does not go on (SIGHUP by its terminal, else SIGKILL).

    What the host refuses is the exec's end too, with ``detail["exit_code"]`` 126 or 127 of a command that can't be executed.
    """
    require(actor, "container.exec")
    view = await projection.get(actor, exec_id)
    container = await containers.container(actor, view.container)
    check_active(container)
    view = _claim(view)
    asked = dataclasses.replace(view.spec, console_size=tuple(console_size) or view.spec.console_size)
    words = {"exec": codec.to_json(asked), "detach": detached, "hang_up": hang_up, "detach_keys": view.detach_keys or keys.DETACH}
    recorded = asyncio.ensure_future(database.run(_started, actor, exec_id))  # while the host runs it
    try:
        async with turns.turn(container.tenant_id):
            ok, reader, writer = await open_stream("exec", container.spec.tenant, container.id, **words)
    except EngineError as error:
        await recorded
        if not isinstance(error, Unavailable):  # else it may run: ``look`` asks the host
            await database.run(_failed, exec_id, int(error.detail.get("exit_code", CANNOT_RUN)))
        raise
    projection.put(dataclasses.replace(view, pid=int(ok["pid"])))
    await recorded
    return Started(view, reader, writer)


def _claim(view: ExecView) -> ExecView:
    """Once: the second who starts it is refused, and nothing is waited for between the look and the mark."""
    view = projection.newest(view)
    if view.exit_code is not None:
        raise FailedPrecondition(f"exec command {view.id} has already run")
    if view.started:
        raise FailedPrecondition(f"exec command {view.id} is already running")
    view = dataclasses.replace(view, started=True)
    projection.put(view)
    return view


def _started(actor: Actor, exec_id: str) -> None:
    row = statements.get(Exec, "exec_id", exec_id, lock=True)
    container = statements.get(Container, "engine_id", row.container) if row else None
    if row is None or container is None:
        return  # removed meanwhile
    row.started = True
    statements.update(row, "started")
    audit.record(actor, "container.exec_start", container.name, exec=exec_id)
    rows.event(container, f"exec_start: {rows.command(row.to_spec())}", exec_id)


def _failed(exec_id: str, exit_code: int) -> None:
    row = statements.get(Exec, "exec_id", exec_id, lock=True)
    if row is not None and row.exit_code is None:
        rows.end(row, exit_code)


async def finished(exec_id: str) -> None:
    """After its output has ended: until its exit code is known, so that who asks next reads it."""
    await projection.ended(exec_id, timeout_s=_EXIT_WORD_S)


async def resize(actor: Actor, exec_id: str, height: int, width: int) -> None:
    require(actor, "container.exec")
    view = await projection.get(actor, exec_id)
    container = await containers.container(actor, view.container)
    check_active(container)
    if not view.is_running:
        raise FailedPrecondition(f"exec {exec_id} is not running")
    if not view.spec.tty:
        return
    _ok, _reader, writer = await open_stream("exec_resize", container.spec.tenant, container.id, exec=exec_id, rows=height, columns=width)
    writer.transport.abort()


async def look(actor: Actor, exec_id: str) -> ExecView:
    """As it is now. The host is asked about one that this process did not see start, or whose container has ended meanwhile."""
    require(actor, "container.view")
    view = await projection.get(actor, exec_id)
    container = await containers.container(actor, view.container)
    if not view.is_running or (view.pid and container.is_running):
        return view
    try:
        ok, _reader, writer = await open_stream("exec_state", container.spec.tenant, container.id, exec=exec_id)
    except NotFound:
        await database.run(_failed, exec_id, rows.LOST)
        return await projection.get(actor, exec_id)
    except Unavailable:
        return view
    writer.transport.abort()
    state = codec.from_json(ExecState, ok["state"])
    if state.running:
        view = dataclasses.replace(view, pid=state.pid)
        projection.put(view)
        return view
    await database.run(rows.exited, container.spec.tenant, state)
    return await projection.get(actor, exec_id)


def check_active(view: ContainerView, name: str = "") -> None:
    """moby's sentences for a container that nothing can be run in just now; ``name``: as the user called it."""
    if view.status is Status.PAUSED:
        raise FailedPrecondition(f"Container {name or view.name} is paused, unpause the container before exec")
    if view.status is Status.RESTARTING:
        raise FailedPrecondition(f"Container {view.id} is restarting, wait until the container is running")
    if not view.is_running:
        raise FailedPrecondition(f"container {view.id} is not running")
