"""Removing all of a tenant's containers that do not run, or those that a filter names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.containers import projection, services
from controlpanel.containers.acts import tenant_of
from controlpanel.containers.models import Desired
from controlpanel.containers.projection import ContainerView
from controlpanel.events import log as events
from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import may, require
from engine.errors import EngineError, FailedPrecondition

log = logging.getLogger(__name__)

_under_way: set[int] = set()  # tenants


@dataclass(frozen=True, slots=True)
class Pruned:
    ids: tuple[str, ...]
    bytes: int  # of their writable layers


async def prunable(actor: Actor, test: Callable[[ContainerView], bool] = lambda _view: True) -> list[ContainerView]:
    """What ``prune`` would remove, newest first."""
    require(actor, "container.view")
    views = await projection.containers(actor)
    return [view for view in views if not view.is_running and view.host_seq >= 0 and view.desired not in _BUSY and test(view)]


async def sized(actor: Actor, *, at_most: int) -> list[tuple[ContainerView, int]]:
    """What ``prune`` would remove, with the bytes of each writable layer."""
    views = (await prunable(actor))[:at_most]
    return list(zip(views, await asyncio.gather(*map(_size, views)), strict=True))


async def prune(actor: Actor, test: Callable[[ContainerView], bool] = lambda _view: True) -> Pruned:
    """What cannot be removed just now stays, as in moby. One at a time for each tenant."""
    require(actor, "container.prune")
    number = actor.tenant_number
    if number in _under_way:
        raise FailedPrecondition("a prune operation is already running")
    _under_way.add(number)
    try:
        ids, size = [], 0
        for view in await prunable(actor, lambda view: may(actor, "container.prune", view.project) and test(view)):
            try:
                freed = await _size(view)
                await services.remove_container(actor, view.id)
            except EngineError as error:
                log.info("container %s is not pruned: %s", view.id[:12], error.message)
                continue
            ids.append(view.id)
            size += freed
        pruned = Pruned(tuple(ids), size)
        await database.run(_tell, actor, pruned)
    finally:
        _under_way.discard(number)
    return pruned


def _tell(actor: Actor, pruned: Pruned) -> None:
    """Also of none: that somebody did it stands in the log."""
    events.write(actor.tenant_number, "container", "prune", "", {"reclaimed": str(pruned.bytes)})
    audit.record(actor, "container.prune", tenant_of(actor).name, containers=len(pruned.ids))


_BUSY = (Desired.REMOVED, Desired.RESTARTING)


async def _size(view: ContainerView) -> int:
    """Bytes of its writable layer; 0 when the host does not say."""
    try:
        ok, _reader, writer = await open_stream("size", view.spec.tenant, view.id)
    except EngineError:
        return 0
    writer.close()
    return int(ok["bytes"])
