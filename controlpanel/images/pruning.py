"""Removing all of a tenant's images that nothing needs: those without a name, or (``named``) those that no container is of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from controlpanel.base import database
from controlpanel.events import log as events
from controlpanel.hosts import operations, queries
from controlpanel.hosts.models import Operation
from controlpanel.images import projection
from controlpanel.images.projection import ImageView
from controlpanel.images.services import taken_away
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, FailedPrecondition
from workers import contract

Test = Callable[[ImageView], bool]

_under_way: set[int] = set()  # tenants


@dataclass(frozen=True, slots=True)
class Pruned:
    untagged: tuple[str, ...]
    deleted: tuple[str, ...]  # image and chain ids
    bytes: int


async def prunable(actor: Actor, used: Collection[str], *, named: bool, test: Test = lambda _view: True) -> list[ImageView]:
    """What ``prune`` would remove, newest first. ``used``: ids of images that containers are of."""
    require(actor, "image.view")
    views = await projection.of_tenant(actor)
    parents = {view.record.parent for view in views}
    return [
        view
        for view in views
        if view.id not in used and (named or not tagged(view)) and (view.refs or view.id not in parents) and test(view)
    ]


def tagged(view: ImageView) -> bool:
    """Whether it has a name that is not only a digest."""
    return any("@" not in ref for ref in view.refs)


async def prune(actor: Actor, used: Collection[str], *, named: bool, test: Test = lambda _view: True) -> Pruned:
    """What a container needs stays, as in moby. One at a time for each tenant."""
    require(actor, "image.prune")
    number = actor.tenant_number
    if number in _under_way:
        raise FailedPrecondition("a prune operation is already running")
    _under_way.add(number)
    try:
        views = await prunable(actor, used, named=named, test=test)
        done = Pruned((), (), 0)
        if views:
            done = await operations.ask(await database.run(_begin, actor, [view.id for view in views], named)) or done
        await database.run(events.write, number, "image", "prune", "", {"reclaimed": str(done.bytes)})
    finally:
        _under_way.discard(number)
    return done


def _begin(actor: Actor, images: Sequence[str], named: bool) -> Operation:
    tenant = actor.tenant
    assert tenant is not None
    return operations.begin(
        actor,
        queries.local_host(),
        verb="image.prune",
        object=f"{len(images)}",
        task=contract.PRUNE_IMAGES,
        key=f"images:{tenant.name}",
        payload={"tenant": tenant.name, "images": list(images), "all": named},
        detail={"images": list(images)},
    )


def _pruned(operation: Operation, ok: dict[str, Any], error: EngineError | None) -> Pruned | None:
    if error is not None:
        return None
    untagged, deleted = dict(ok.get("untagged") or {}), list(ok.get("deleted") or [])
    taken_away(operation.tenant_id, untagged, deleted, ok.get("images") or ())
    operations.tell_done(operation, untagged=untagged, deleted=deleted)
    return Pruned(tuple(untagged), tuple(deleted), int(ok.get("bytes") or 0))


operations.on_answer(contract.PRUNE_IMAGES, _pruned)
