"""``GET /system/df``. What hosts must look through (containers' writable layers) is looked at once in a while, however many ask."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, Final

from controlpanel.builds import services as builds
from controlpanel.containers import projection as containers
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import image_shapes, listing, sizes, volumes, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.images import projection as images
from controlpanel.images import usage
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument, Unavailable

KEPT_S: Final = 10.0  # how old a container's size may be
_KINDS: Final = ("container", "image", "volume", "build-cache")

_measured: dict[int, tuple[float, frozenset[str], asyncio.Future[dict[str, sizes.Sizes]]]] = {}  # by tenant


async def disk_usage(exchange: Exchange) -> None:
    actor = exchange.actor
    require(actor, "image.view")
    require(actor, "container.view")
    wanted = _wanted(exchange)
    out: dict[str, Any] = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
    mine = await containers.containers(actor)
    if "image" in wanted:
        views = await images.images(actor)
        users, shared = Counter(view.image_id for view in mine), usage.shared(views)
        out["LayersSize"] = usage.total(views)
        out["Images"] = [image_shapes.summary(view, shared[view.id], users, exchange.version) for view in views]
    if "container" in wanted:
        out["Containers"] = await _containers(actor, mine)
    if "volume" in wanted:
        out["Volumes"] = await volumes.usage(actor)
    if "build-cache" in wanted:
        out["BuildCache"] = await _build_cache(actor)
    if exchange.version < (1, 42):
        out["BuilderSize"] = 0
    await exchange.reply_json(out)


def _wanted(exchange: Exchange) -> set[str]:
    asked = exchange.query.get("type", ()) if exchange.version >= (1, 42) else ()
    for kind in asked:
        if kind not in _KINDS:
            raise InvalidArgument(f"unknown object type: {kind[:100]}")
    return set(asked) or set(_KINDS)


async def _containers(actor: Actor, mine: list[ContainerView]) -> list[dict[str, Any]]:
    """Without the members that say a size while the host does not tell it: 0 would be a lie."""
    assert actor.tenant is not None
    now = time.time()
    try:
        found = await _sizes(actor, mine)
    except Unavailable:
        found = {}
    return [{**listing.summary(view, actor.tenant.name, now), **found.get(view.id, {})} for view in mine]


async def _build_cache(actor: Actor) -> list[dict[str, Any]] | None:
    """Steps of builds. None while the host does not tell them."""
    try:
        steps = await builds.usage(actor)
    except Unavailable:
        return None
    return [
        {
            "ID": step["id"],
            "Type": "regular",
            "Description": step["text"],
            "InUse": False,
            "Shared": False,
            "Size": step["bytes"],
            "CreatedAt": words.rfc3339(step["made_ns"]),
            "LastUsedAt": words.rfc3339(step["used_ns"]),
            "UsageCount": 1,
        }
        for step in steps
    ]


async def _sizes(actor: Actor, mine: list[ContainerView]) -> dict[str, sizes.Sizes]:
    """The same answer for all who ask within KEPT_S, as long as there are the same containers."""
    number, ids, now = actor.tenant_number, frozenset(view.id for view in mine), time.monotonic()
    known = _measured.get(number)
    if known is None or known[0] < now or known[1] != ids:
        for each in [each for each, (until, _ids, _asked) in _measured.items() if until < now]:
            del _measured[each]
        known = _measured[number] = now + KEPT_S, ids, asyncio.ensure_future(sizes.measured(actor, mine))
    try:
        return await asyncio.shield(known[2])
    except Exception:
        _measured.pop(number, None)
        raise
