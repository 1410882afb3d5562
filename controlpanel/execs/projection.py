"""Execs as readers in the web process see them: in memory once they were touched, never ahead of their rows."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Final

from controlpanel.base import database, live
from controlpanel.containers import projection as containers
from controlpanel.execs.models import Exec
from controlpanel.tenants.actor import Actor
from engine.errors import NotFound
from engine.model.execution import ExecSpec

_KEPT: Final = 10_000  # in memory, of all tenants; older ones are read again


@dataclasses.dataclass(frozen=True, slots=True)
class ExecView:
    """``pid`` 0: not started, or only the host knows it."""

    id: str
    tenant_id: int
    container: str
    spec: ExecSpec
    detach_keys: str
    started: bool
    pid: int
    exit_code: int | None
    created_at_ns: int

    @property
    def is_running(self) -> bool:
        return self.started and self.exit_code is None


_known: dict[str, ExecView] = {}
_active: dict[str, dict[str, None]] = {}  # container: its execs that have not ended, oldest first
_loaded: dict[int, asyncio.Future[None]] = {}  # tenants whose active ones are all in memory
_waiting: dict[str, list[asyncio.Future[None]]] = {}


def view_of(row: Exec) -> ExecView:
    return ExecView(
        row.exec_id, row.tenant_id, row.container, row.to_spec(), row.detach_keys, row.started, row.pid, row.exit_code, row.created_at_ns
    )


async def get(actor: Actor, exec_id: str) -> ExecView:
    """NotFound for another tenant's, and for one whose container is gone."""
    view = _known.get(exec_id) or await database.read(_read, exec_id)
    if view is None or view.tenant_id != actor.tenant_number:
        raise no_such_exec(exec_id)
    if exec_id not in _known:
        put(view)
    try:
        await containers.container(actor, view.container)
    except NotFound:
        raise no_such_exec(exec_id) from None
    return view


async def active(actor: Actor, container_id: str) -> list[str]:
    """Ids of a container's execs that wait for their start, or run."""
    number = actor.tenant_number
    if number not in _loaded:
        _loaded[number] = asyncio.ensure_future(_load(number))
    loading = _loaded[number]
    if not loading.done():
        await asyncio.shield(loading)
    return list(_active.get(container_id, ()))


async def ended(exec_id: str, *, timeout_s: float) -> bool:
    """Waits until it has ended; False when that takes longer."""
    view = _known.get(exec_id)
    if view is not None and view.exit_code is not None:
        return True
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = _waiting.setdefault(exec_id, [])
    waiting.append(told)
    try:
        await asyncio.wait_for(told, timeout_s)
    except TimeoutError:
        return False
    finally:
        waiting.remove(told)
        if not waiting:
            _waiting.pop(exec_id, None)
    return True


def put(view: ExecView) -> None:
    """A newer copy. What has ended does not run again."""
    known = _known.pop(view.id, None)
    if known is not None and (known.exit_code is not None or (known.started and not view.started)):
        view = known
    _known[view.id] = view
    if len(_known) > _KEPT:
        del _known[next(iter(_known))]
    if view.exit_code is None:
        _active.setdefault(view.container, {})[view.id] = None
        return
    present = _active.get(view.container, {})
    present.pop(view.id, None)
    if not present:
        _active.pop(view.container, None)
    for told in _waiting.get(view.id, ()):
        if not told.done():
            told.set_result(None)


def newest(view: ExecView) -> ExecView:
    return _known.get(view.id, view)


def heard_end(tenant: str, state: dict[str, Any]) -> bool:
    """The host says how one ended; False when that is no news. Who waits for it goes on before the row is written: until it is, and if
    it never is, the host answers the same to whoever asks."""
    view = _known.get(state["id"])
    if view is None:
        return True
    if view.exit_code is not None:
        return False
    container = containers.peek(view.tenant_id, view.container)
    if container is None or container.spec.tenant != tenant:
        return True  # the row decides
    put(dataclasses.replace(view, exit_code=int(state["exit_code"]), pid=int(state["pid"])))
    return True


def no_such_exec(exec_id: str) -> NotFound:
    return NotFound(f"No such exec instance: {exec_id}")


def _read(exec_id: str) -> ExecView | None:
    row = Exec.everywhere.filter(exec_id=exec_id).first()
    return view_of(row) if row else None


async def _load(tenant_id: int) -> None:
    try:
        for view in await database.read(_active_of, tenant_id):
            if view.id not in _known:
                put(view)
    except BaseException:
        _loaded.pop(tenant_id, None)
        raise


def _active_of(tenant_id: int) -> list[ExecView]:
    return [view_of(row) for row in Exec.everywhere.filter(tenant_id=tenant_id, exit_code=None).order_by("id")]


def _changed(message: live.Message, view: ExecView | None) -> Any:
    """Of another process (without the row): it is read when somebody asks, at once where somebody waits."""
    if view is not None:
        put(view)
        return None
    return _read_again(message["id"])


async def _read_again(exec_id: str) -> None:
    view = await database.read(_read, exec_id)
    if view is not None:
        put(view)


def _container_changed(message: live.Message, _row: Any) -> None:
    if message.get("removed"):
        for exec_id in _active.pop(message["id"], {}):
            _known.pop(exec_id, None)


def clear() -> None:
    """Forget everything: after a gap in the feed, and for tests. Who waits goes on waiting."""
    _known.clear()
    _active.clear()
    _loaded.clear()


live.on("exec", _changed)
live.on("container", _container_changed)
live.on("gap", lambda _message, _row: clear())
