"""Containers as every reader in the web process sees them: dictionaries, loaded from rows on a miss, never ahead of them.

A write is delivered by the live feed after its commit and before the writer's caller goes on, so whoever is answered
reads their own write. Of two copies of a row the greater ``version`` stays; a removed container does not come back.
Waiters are released only after the copy they wait for is in place (an answer to ``wait`` followed by ``inspect`` agrees).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from controlpanel.base import database, live
from controlpanel.containers.models import Container
from controlpanel.hosts import queries as hosts
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import check_place, sight
from engine.errors import InvalidArgument, NotFound
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState, Status

NOT_RUNNING: Final = "not-running"
NEXT_EXIT: Final = "next-exit"
REMOVED: Final = "removed"
RESTARTED: Final = "restarted"  # ours: the run after the present one has begun, or could not begin
CONDITIONS: Final = (NOT_RUNNING, NEXT_EXIT, REMOVED)
_REMEMBERED: Final = 4096  # removed containers whose late news must be ignored


class ContainerView:
    """One version of one container, immutable by agreement. ``cache`` is free for readers' serialised fragments of it."""

    __slots__ = (
        "_spec",
        "auto_remove",
        "cache",
        "created_at_ns",
        "desired",
        "docker_config",
        "docker_host_config",
        "host",
        "host_seq",
        "id",
        "image",
        "image_id",
        "name",
        "network_names",
        "row",
        "state",
        "status",
        "tenant_id",
        "version",
    )

    def __init__(self, row: Container) -> None:
        self.row = row.pk
        self.tenant_id: int = row.tenant_id
        self.host = hosts.host_name(row.host_id)
        self.id = row.engine_id
        self.name = row.name
        self.image_id = row.image_id
        self.image = row.image
        self._spec: Any = row.spec
        self.state: ContainerState = row.to_state()
        self.status = Status(row.status)
        self.docker_config: dict[str, Any] = row.docker_config
        self.docker_host_config: dict[str, Any] = row.docker_host_config
        self.network_names: dict[str, str] = row.network_names
        self.auto_remove = row.auto_remove
        self.desired = row.desired
        self.host_seq = row.host_seq
        self.version = row.version
        self.created_at_ns = row.created_at_ns
        self.cache: dict[str, Any] = {}

    @property
    def spec(self) -> ContainerSpec:
        """Decoded when first asked for: most versions of a row are never looked at."""
        if isinstance(self._spec, dict):
            self._spec = codec.from_json(ContainerSpec, self._spec)
        spec: ContainerSpec = self._spec
        return spec

    @property
    def project(self) -> str:
        """Its name, "" for none. Labels never change."""
        return projects.name_of(self.docker_config.get("Labels") or {})

    @property
    def is_running(self) -> bool:
        """As moby counts: also while it waits for its restart. ``state.has_process`` says whether there is a process."""
        return self.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


class _Shelf:
    """One tenant's containers."""

    def __init__(self) -> None:
        self.by_id: dict[str, ContainerView] = {}
        self.by_name: dict[str, str] = {}
        self.loaded: asyncio.Future[None] | None = None

    def put(self, view: ContainerView) -> bool:
        known = self.by_id.get(view.id)
        if known is not None and known.version >= view.version:
            return False
        if known is not None and known.name != view.name and self.by_name.get(known.name) == view.id:
            del self.by_name[known.name]
        self.by_id[view.id] = _everything[view.id] = view
        self.by_name[view.name] = view.id
        return True

    def pop(self, container_id: str) -> ContainerView | None:
        view = self.by_id.pop(container_id, None)
        if view is not None and self.by_name.get(view.name) == container_id:
            del self.by_name[view.name]
        return view


class _Waiter:
    __slots__ = ("change", "condition", "future", "seq")

    def __init__(self, condition: str, view: ContainerView) -> None:
        self.condition = condition
        self.seq = max(view.host_seq, 0)  # at the time of asking
        self.change = view.state.change
        self.future: asyncio.Future[ContainerState] = asyncio.get_running_loop().create_future()

    def is_met_by(self, view: ContainerView) -> bool:
        """Of a container that runs every exit releases, also one that its policy follows with a start (moby's stopWaiters)."""
        if self.condition == REMOVED:
            return False
        if self.condition == RESTARTED:
            return view.host_seq > self.seq + 1 and (view.state.has_process or view.host_seq > self.seq + 2 or bool(view.state.error))
        if not view.is_running and (self.condition == NOT_RUNNING or view.state.change > self.change):
            return True  # the latter: its restart was given up
        # an exit has an even number; after it the next start may have been seen already
        return view.host_seq >= self.seq + (2 if self.seq % 2 == 0 else 1)


_shelves: dict[int, _Shelf] = {}
_everything: dict[str, ContainerView] = {}  # of all tenants, also of those whose shelf nobody has asked for yet
_waiters: dict[str, list[_Waiter]] = {}
_removed: dict[str, None] = {}
_removed_order: deque[str] = deque()


async def containers(actor: Actor) -> list[ContainerView]:
    """The tenant's that the actor knows of, newest first."""
    found, sees = await everything(actor), sight(actor, "container")
    return found if sees is None else [view for view in found if sees(view.project)]


async def everything(actor: Actor) -> list[ContainerView]:
    """All of the tenant's, whoever asks: for what a decision rests on (is this network in use?), never for an answer."""
    shelf = await _shelf(actor.tenant_number)
    return sorted(shelf.by_id.values(), key=lambda view: view.created_at_ns, reverse=True)


async def container(actor: Actor, name: str) -> ContainerView:
    """By id, name (with or without slash) or unique start of an id, as moby looks it up. NotFound for another tenant's and for what the
    actor does not know of; PermissionDenied where what the request tries does not hold."""
    shelf = await _shelf(actor.tenant_number)
    return _for(actor, find(shelf, name, sight(actor, "container")))


def _for(actor: Actor, view: ContainerView) -> ContainerView:
    if not actor.is_plain:
        check_place(actor, view.project)
    return view


def find(shelf: _Shelf, name: str, sees: Callable[[str], bool] | None = None) -> ContainerView:
    """``sees``: whether of a project; None: of all."""
    view = shelf.by_id.get(name) or shelf.by_id.get(shelf.by_name.get(name.removeprefix("/"), ""))
    if view is not None and (sees is None or sees(view.project)):
        return view
    matches = [view for container_id, view in shelf.by_id.items() if container_id.startswith(name)] if name else []
    if sees is not None:
        matches = [view for view in matches if sees(view.project)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InvalidArgument(f"multiple IDs found with provided prefix: {name}")
    raise no_such_container(name)


def no_such_container(name: str) -> NotFound:
    return NotFound(f"No such container: {name}")


async def wait(actor: Actor, name: str, condition: str = NOT_RUNNING) -> asyncio.Future[ContainerState]:
    """A future of the container's state when the condition holds; it is registered when this returns. Cancel it to give up.

    A container that is removed meanwhile meets every condition.
    """
    if condition not in (*CONDITIONS, RESTARTED):
        raise InvalidArgument(f'invalid condition: "{condition}"')
    view = await container(actor, name)
    waiter = _Waiter(condition, view)
    if waiter.is_met_by(view):
        waiter.future.set_result(view.state)
        return waiter.future
    _waiters.setdefault(view.id, []).append(waiter)
    waiter.future.add_done_callback(lambda _future: _forget(view.id, waiter))
    return waiter.future


def _forget(container_id: str, waiter: _Waiter) -> None:
    waiting = _waiters.get(container_id, [])
    if waiter in waiting:
        waiting.remove(waiter)
    if not waiting:
        _waiters.pop(container_id, None)


def _release(container_id: str, view: ContainerView, *, all_of_them: bool) -> None:
    for waiter in list(_waiters.get(container_id, ())):
        if not waiter.future.done() and (all_of_them or waiter.is_met_by(view)):
            waiter.future.set_result(view.state)


async def _shelf(tenant_id: int) -> _Shelf:
    """Loaded. What is put while the rows are read stays when it is newer."""
    shelf = _shelves.get(tenant_id)
    if shelf is None:
        shelf = _shelves[tenant_id] = _Shelf()
    if shelf.loaded is None:
        shelf.loaded = asyncio.ensure_future(_load(tenant_id, shelf))
        shelf.loaded.add_done_callback(lambda done: _load_failed(tenant_id, shelf, done))
    if not shelf.loaded.done():
        await asyncio.shield(shelf.loaded)
    return shelf


async def _load(tenant_id: int, shelf: _Shelf) -> None:
    for view in await database.read(_views, tenant_id):
        if view.id not in _removed:
            shelf.put(view)


def _load_failed(tenant_id: int, shelf: _Shelf, done: asyncio.Future[None]) -> None:
    if (done.cancelled() or done.exception()) and _shelves.get(tenant_id) is shelf:
        del _shelves[tenant_id]


def _views(tenant_id: int) -> list[ContainerView]:
    return [ContainerView(row) for row in Container.everywhere.filter(tenant_id=tenant_id)]


def _view(container_id: str) -> ContainerView | None:
    row = Container.everywhere.filter(engine_id=container_id).first()
    return ContainerView(row) if row else None


def _changed(message: live.Message, view: ContainerView | None) -> Any:
    """A handler of the live feed. Of this process: with the row, or None for a removal; of another: it is read first.

    ``back``: it had been believed to be gone, and is not.
    """
    if message.get("back"):
        _removed.pop(message["id"], None)
    if view is None and not message.get("removed"):
        return _read_and_put(message)
    if view is not None:
        _put(view)
    else:
        _pop(message["tenant"], message["id"])
    return None


async def _read_and_put(message: live.Message) -> None:
    view = await database.read(_view, message["id"])
    if view is not None:
        _put(view)
    else:
        _pop(message["tenant"], message["id"])


def _put(view: ContainerView) -> None:
    if view.id in _removed:
        return
    shelf, known = _shelves.get(view.tenant_id), _everything.get(view.id)
    if shelf is not None:
        is_newer = shelf.put(view)
    elif is_newer := known is None or known.version < view.version:
        _everything[view.id] = view
    if is_newer:
        _release(view.id, view, all_of_them=False)


def _pop(tenant_id: int, container_id: str) -> None:
    if container_id in _removed:
        return
    _removed[container_id] = None
    _removed_order.append(container_id)
    if len(_removed_order) > _REMEMBERED:
        _removed.pop(_removed_order.popleft(), None)
    shelf = _shelves.get(tenant_id)
    view = shelf.pop(container_id) if shelf is not None else None
    _everything.pop(container_id, None)
    if view is not None:
        _release(container_id, view, all_of_them=True)


async def refresh() -> None:
    """After a gap in the live feed: read all loaded tenants again, release who waits for what happened meanwhile."""
    for tenant_id, shelf in list(_shelves.items()):
        fresh = {view.id: view for view in await database.read(_views, tenant_id)}
        for view in fresh.values():
            _put(view)
        for container_id in [known for known in shelf.by_id if known not in fresh]:
            if await database.read(_view, container_id) is None:  # made after we read is no removal
                _pop(tenant_id, container_id)


def peek(tenant_id: int, container_id: str) -> ContainerView | None:
    """What is in memory now, without loading; for the platform's own loops, never for an answer."""
    shelf = _shelves.get(tenant_id)
    return shelf.by_id.get(container_id) if shelf is not None else None


def has_seen(container_id: str, seq: int, change: int = 0) -> bool:
    """Whether a fact of the host with these numbers is no news: it was applied already, or the container is removed."""
    view = _everything.get(container_id)
    return container_id in _removed or (view is not None and (view.host_seq, view.state.change) >= (seq, change))


def forget_tenant(tenant_id: int) -> None:
    """For a process without a live feed, before it reads again."""
    shelf = _shelves.pop(tenant_id, None)
    for container_id in shelf.by_id if shelf is not None else ():
        _everything.pop(container_id, None)


def clear() -> None:
    """Forget everything: for tests, which change databases under a living process."""
    _shelves.clear()
    _everything.clear()
    _waiters.clear()
    _removed.clear()
    _removed_order.clear()


def _gap(_message: live.Message, _row: Any) -> Any:
    return refresh()


live.on("container", _changed)
live.on("gap", _gap)
