"""What images each tenant may use, kept in the web process: loaded from rows on a miss, dropped when they change.

Names resolve as on the host: a tenant's own first, then the public ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from controlpanel.base import database, live
from controlpanel.images.models import Image, Tag
from controlpanel.tenants.actor import Actor
from engine.errors import InvalidArgument, NotFound
from engine.model.image import ImageRecord
from engine.model.reference import Reference, image_id_prefix

PUBLIC = live.EVERYONE


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image of a tenant (or public) with its names there, sorted. ``cache`` is free for readers' serialised fragments of it."""

    record: ImageRecord
    refs: tuple[str, ...]
    public: bool
    added_at_s: int  # unix time
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        return self.record.id


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One tenant's own images, or the public ones."""

    by_id: dict[str, ImageView]
    by_ref: dict[str, str]


_shelves: dict[int, _Shelf] = {}
_lists: dict[int, tuple[_Shelf, _Shelf, list[ImageView]]] = {}  # the last merged list of a tenant, and what it was made of
_generation: dict[int, int] = {}


async def images(actor: Actor) -> list[ImageView]:
    """Own and public ones, newest first. An image that is both is shown once, with the names of both."""
    number = actor.tenant_number
    own, public = await _shelf(number), await _shelf(PUBLIC)
    known = _lists.get(number)
    if known is None or known[0] is not own or known[1] is not public:
        known = _lists[number] = own, public, _merge(own, public)
    return known[2]


async def of_tenant(actor: Actor) -> list[ImageView]:
    """Without the public ones, newest first."""
    return _sorted((await _shelf(actor.tenant_number)).by_id)


def _merge(own: _Shelf, public: _Shelf) -> list[ImageView]:
    merged = dict(public.by_id)
    for image_id, view in own.by_id.items():
        both = merged.get(image_id)
        refs = tuple(sorted({*view.refs, *(both.refs if both else ())}))
        merged[image_id] = ImageView(view.record, refs, view.public, view.added_at_s)
    return _sorted(merged)


def _sorted(views: dict[str, ImageView]) -> list[ImageView]:
    return sorted(views.values(), key=lambda view: (view.record.created, view.id), reverse=True)


async def image(actor: Actor, name: str) -> ImageView:
    """By reference, id or unique start of an id. NotFound and InvalidArgument with moby's sentences."""
    own, public = await _shelf(actor.tenant_number), await _shelf(PUBLIC)
    return resolve(name, (own, public))


def resolve(name: str, shelves: Iterable[_Shelf]) -> ImageView:
    shelves = tuple(shelves)
    ref, digits = _reference(name), image_id_prefix(name)
    if ref is None and digits is None:
        Reference.parse(name)  # raises moby's sentence
    if digits is not None and len(digits) == 64:
        for shelf in shelves:
            if found := shelf.by_id.get(f"sha256:{digits}"):
                return found
    if ref is not None:
        for shelf in shelves:
            if image_id := shelf.by_ref.get(ref):
                return shelf.by_id[image_id]
    if digits is not None:
        everything = {image_id: view for shelf in reversed(shelves) for image_id, view in shelf.by_id.items()}
        matches = {image_id: view for image_id, view in everything.items() if image_id[7:].startswith(digits)}
        if len(matches) == 1:
            return next(iter(matches.values()))
        if matches:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {digits}")
    raise no_such_image(ref or name)


def no_such_image(name: str) -> NotFound:
    return NotFound(f"No such image: {name}")


def _reference(name: str) -> str | None:
    try:
        return Reference.parse(name).key
    except InvalidArgument:
        return None


async def _shelf(tenant_id: int) -> _Shelf:
    found = _shelves.get(tenant_id)
    if found is None:
        generation = _generation.get(tenant_id, 0)
        found = await database.read(_load, tenant_id)
        if _generation.get(tenant_id, 0) == generation:
            _shelves[tenant_id] = found
    return found


def _load(tenant_id: int) -> _Shelf:
    scope: dict[str, Any] = {"tenant_id": tenant_id} if tenant_id != PUBLIC else {"tenant": None}
    refs: dict[int, list[str]] = {}
    for image_pk, ref in Tag.everywhere.filter(**scope).values_list("image_id", "ref"):
        refs.setdefault(image_pk, []).append(ref)
    by_id, by_ref = {}, {}
    for row in Image.everywhere.filter(**scope):
        names = tuple(sorted(refs.get(row.pk, ())))
        by_id[row.image_id] = ImageView(row.to_record(), names, tenant_id == PUBLIC, int(row.added_at.timestamp()))
        by_ref.update(dict.fromkeys(names, row.image_id))
    return _Shelf(by_id, by_ref)


def _changed(message: live.Message, _row: Any) -> None:
    tenant_id = message["tenant"]
    _shelves.pop(tenant_id, None)
    _lists.pop(tenant_id, None)
    _generation[tenant_id] = _generation.get(tenant_id, 0) + 1


def clear() -> None:
    """Everything is read again. After a gap in the live feed, and in tests."""
    for tenant_id in {*_shelves, *_generation}:
        _generation[tenant_id] = _generation.get(tenant_id, 0) + 1
    _shelves.clear()
    _lists.clear()


live.on("image", _changed)
live.on("gap", lambda _message, _row: clear())
