"""REST: images together with the containers that are of them: who uses one, and what nothing needs any more."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.containers import projection as containers
from controlpanel.dockerapi.images import prunable
from controlpanel.images import projection as images
from controlpanel.images import pruning, usage
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.rest import actor

router = Router()
_PRUNE: Final = "/tenants/{tenant}/image-prune"


class UnusedOut(Schema):
    id: str
    refs: list[str]
    size_bytes: int


class PrunableOut(Schema):
    """``bytes``: what the disk holds less without them, as far as this tenant's images go."""

    images: list[UnusedOut]
    bytes: int


class ImagePruneIn(Asked):
    all: bool = Field(False, description="Also images with names, as far as no container is of them.")
    labels: list[str] = Field([], description="Only with these: name or name=value.")
    without_labels: list[str] = Field([], description="Only without these.")
    until: str = Field("", description="Only older ones: 24h, or a time as 2026-01-01T00:00:00Z.")


class ImagesPrunedOut(Schema):
    untagged: list[str]
    deleted: list[str]
    bytes: int


@router.get(_PRUNE, response=PrunableOut, summary="What a prune would remove")
async def list_prunable(
    request: HttpRequest, tenant: str, all: Annotated[bool, Query(description="Also images with names.")] = False
) -> dict[str, Any]:
    who = await actor(request, tenant, "image.view")
    found = await pruning.prunable(who, await _used(who), named=all)
    return {
        "images": [{"id": view.id, "refs": view.refs, "size_bytes": view.record.size_bytes} for view in found],
        "bytes": usage.freed(await images.images(who), found),
    }


@router.post(_PRUNE, response=ImagesPrunedOut, summary="Remove images that nothing needs")
async def prune_images(request: HttpRequest, tenant: str, payload: ImagePruneIn | None = None) -> dict[str, Any]:
    who = await actor(request, tenant, "image.prune")
    asked = payload or ImagePruneIn()
    given = {"label": asked.labels, "label!": asked.without_labels, "until": [asked.until] if asked.until else []}
    done = await pruning.prune(who, await _used(who), named=asked.all, test=prunable(given, time.time_ns()))
    return {"untagged": done.untagged, "deleted": done.deleted, "bytes": done.bytes}


async def _used(who: Actor) -> set[str]:
    return {view.image_id for view in await containers.everything(who)}
