"""What volumes each tenant has, kept in the web process: loaded from rows on a miss, dropped when another process changes them."""

from __future__ import annotations

from controlpanel.base import database, live
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import check_place, sight
from controlpanel.volumes.models import Volume
from engine.errors import NotFound
from engine.model.volume import VolumeSpec

Shelf = dict[str, VolumeSpec]  # by name

_shelves: dict[int, Shelf] = {}
_generation: dict[int, int] = {}


async def volumes(actor: Actor) -> list[VolumeSpec]:
    """That the actor knows of, by name."""
    found, sees = sorted((await _shelf(actor)).values(), key=lambda spec: spec.name), sight(actor, "volume")
    return found if sees is None else [spec for spec in found if sees(projects.name_of(spec.labels))]


async def volume(actor: Actor, name: str) -> VolumeSpec:
    """NotFound, with moby's sentence, also for another tenant's and what the actor does not know of; PermissionDenied where what the
    request tries does not hold."""
    found = (await _shelf(actor)).get(name)
    if found is None:
        raise no_such_volume(name)
    if not actor.is_plain:
        project, sees = projects.name_of(found.labels), sight(actor, "volume")
        if sees is not None and not sees(project):
            raise no_such_volume(name)
        check_place(actor, project)
    return found


def no_such_volume(name: str) -> NotFound:
    return NotFound(f"get {name}: no such volume")


async def _shelf(actor: Actor) -> Shelf:
    number = actor.tenant_number
    found = _shelves.get(number)
    if found is None:
        generation = _generation.get(number, 0)
        found = await database.read(_load, number, actor.tenant.name if actor.tenant else "")
        if _generation.get(number, 0) == generation:
            _shelves[number] = found
    return found


def _load(tenant_id: int, tenant: str) -> Shelf:
    return {row.name: row.to_spec(tenant) for row in Volume.everywhere.filter(tenant_id=tenant_id)}


def _changed(message: live.Message, change: tuple[str, VolumeSpec | None] | None) -> None:
    """``change``: of this process, which knows what it wrote."""
    tenant_id = message["tenant"]
    _generation[tenant_id] = _generation.get(tenant_id, 0) + 1
    shelf = _shelves.get(tenant_id)
    if change is None or shelf is None:
        _shelves.pop(tenant_id, None)
        return
    name, spec = change
    if spec is not None:
        shelf[name] = spec
    else:
        shelf.pop(name, None)


def clear() -> None:
    """Everything is read again. After a gap in the live feed, and in tests."""
    for tenant_id in {*_shelves, *_generation}:
        _generation[tenant_id] = _generation.get(tenant_id, 0) + 1
    _shelves.clear()


live.on("volume", _changed)
live.on("gap", lambda _message, _row: clear())
