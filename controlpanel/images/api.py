"""REST: the images a tenant may use. Their bytes come by ``docker load`` and ``docker import``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.images import projection, services
from controlpanel.images.projection import ImageView
from controlpanel.tenants.rest import actor

router = Router()
_LIST = "/tenants/{tenant}/images"
_ONE = "/tenants/{tenant}/images/{path:name}"


class ImageOut(Schema):
    """``public``: every tenant has it, and none removes it."""

    id: str
    refs: list[str]
    size_bytes: int
    created: str
    added_at: datetime
    public: bool


class RemovedOut(Schema):
    untagged: list[str]
    deleted: list[str]


class TagIn(Asked):
    image: str = Field(min_length=1, description="A name, an id or the unique start of one.")
    ref: str = Field(min_length=1, max_length=400, description="The additional name, as team/web:2.")


@router.get(_LIST, response=list[ImageOut], summary="Its images and the public ones, newest first")
async def list_images(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "image.view")
    return [_shown(view) for view in await projection.images(who)]


@router.get(_ONE, response=ImageOut, summary="One image, by name or id")
async def get_image(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "image.view")
    return _shown(await projection.image(who, name))


@router.post(_LIST, response={201: ImageOut}, summary="Give an image another name")
async def tag_image(request: HttpRequest, tenant: str, payload: TagIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "image.tag")
    await services.tag(who, payload.image, payload.ref)
    return Status(201, _shown(await projection.image(who, payload.ref)))


@router.delete(_ONE, response=RemovedOut, summary="Remove a name, and the image with its last one")
async def remove_image(request: HttpRequest, tenant: str, name: str, force: bool = False) -> dict[str, list[str]]:
    who = await actor(request, tenant, "image.remove")
    return await services.remove(who, name, force=force)


def _shown(view: ImageView) -> dict[str, Any]:
    return {
        "id": view.id,
        "refs": list(view.refs),
        "size_bytes": view.record.size_bytes,
        "created": view.record.created,
        "added_at": datetime.fromtimestamp(view.added_at_s, UTC),
        "public": view.public,
    }
