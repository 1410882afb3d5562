"""REST: the images a tenant may use. Archives are streams in both directions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import orjson
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from ninja import Query, Router, Schema, Status
from pydantic import Field

from controlpanel.base import rest, uploads
from controlpanel.base.rest import Asked
from controlpanel.base.streaming import closing
from controlpanel.images import projection, services, transfers, usage
from controlpanel.images.history import steps
from controlpanel.images.projection import ImageView
from controlpanel.tenants.rest import actor
from engine.errors import EngineError, InvalidArgument
from engine.model.reference import Reference

router = Router()
UPLOADS: Final = re.compile(r"/api/v1/tenants/[^/]+/image-(archive|rootfs)")  # PUT: their bodies are streams
_LIST = "/tenants/{tenant}/images"
_ONE = "/tenants/{tenant}/images/{path:name}"
_ARCHIVE = "/tenants/{tenant}/image-archive"
_TAR: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}
}


class ImageOut(Schema):
    """``public``: every tenant has it, and none removes it. ``shared_bytes``: of layers that another image here has as well."""

    id: str
    refs: list[str]
    size_bytes: int
    shared_bytes: int
    architecture: str
    os: str
    created: str
    added_at: datetime
    public: bool


class StepOut(Schema):
    """One step of its making. ``layer``: the diffID of what it added, "" when it changed only the config."""

    created: str
    created_by: str
    comment: str
    layer: str
    bytes: int


class ImageDetailOut(ImageOut):
    """``config``: the OCI image config, word for word. ``history`` begins with the oldest step."""

    config: dict[str, Any]
    history: list[StepOut]


class RemovedOut(Schema):
    untagged: list[str]
    deleted: list[str]


class TagIn(Asked):
    image: str = Field(min_length=1, description="A name, an id or the unique start of one.")
    ref: str = Field(min_length=1, max_length=400, description="The additional name, as team/web:2.")


@router.get(_LIST, response=list[ImageOut], summary="Its images and the public ones, newest first")
async def list_images(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "image.view")
    views = await projection.images(who)
    shared = usage.shared(views)
    return [_shown(view, shared[view.id]) for view in views]


@router.get(_ONE, response=ImageDetailOut, summary="One image, by name or id, with its config and history")
async def get_image(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "image.view")
    view = await projection.image(who, name)
    shared = usage.shared(await projection.images(who))
    return {**_shown(view, shared.get(view.id, 0)), "config": view.record.config, "history": steps(view)}


@router.post(_LIST, response={201: ImageOut}, summary="Give an image another name")
async def tag_image(request: HttpRequest, tenant: str, payload: TagIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "image.tag")
    await services.tag(who, payload.image, payload.ref)
    view = await projection.image(who, payload.ref)
    return Status(201, _shown(view, usage.shared(await projection.images(who)).get(view.id, 0)))


@router.delete(_ONE, response=RemovedOut, summary="Remove a name, and the image with its last one")
async def remove_image(
    request: HttpRequest,
    tenant: str,
    name: str,
    force: bool = False,
    no_prune: Annotated[bool, Query(description="Nameless images that it was made from stay.")] = False,
) -> dict[str, list[str]]:
    who = await actor(request, tenant, "image.remove")
    return await services.remove(who, name, force=force, no_prune=no_prune)


@router.get(_ARCHIVE, summary="One or several images as a tar: docker-archive and OCI layout in one")
async def save_images(
    request: HttpRequest,
    tenant: str,
    image: Annotated[list[str], Query(description="Names or ids. A name without a tag is all of its tags.")],
    platform: Annotated[str, Query(description="Refused unless they are of it.", examples=["linux/amd64"])] = "",
) -> HttpResponseBase:
    who = await actor(request, tenant, "image.save")
    stack = AsyncExitStack()
    saved = await stack.enter_async_context(transfers.save(who, image, platform=platform))
    response = StreamingHttpResponse(closing(stack, saved.chunks), content_type="application/x-tar")
    filename = await transfers.file_name(who, image[0]) if len(saved.images) == 1 else "images.tar"
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
    return response


@router.put(_ARCHIVE, summary="Load an archive of images, compressed or not; progress as JSON lines", openapi_extra=_TAR)
async def load_images(
    request: HttpRequest,
    tenant: str,
    platform: Annotated[str, Query(description="Of an index with several: which one. Empty: the host's.")] = "",
) -> HttpResponseBase:
    who = await actor(request, tenant, "image.load")
    return await _receive(transfers.receive(who, "load", uploads.body(request), platform=platform))


@router.put(
    "/tenants/{tenant}/image-rootfs",
    summary="Make an image of a root file system, a tar, compressed or not; progress as JSON lines",
    openapi_extra=_TAR,
)
async def import_image(
    request: HttpRequest,
    tenant: str,
    ref: Annotated[str, Query(description="Its name; empty: none.", max_length=400)] = "",
    change: Annotated[list[str], Query(description='Dockerfile lines, as CMD ["sh"].')] = [],  # noqa: B006  ninja's way of a list
    message: str = "",
    platform: Annotated[str, Query(examples=["linux/arm64"])] = "",
) -> HttpResponseBase:
    who = await actor(request, tenant, "image.load")
    name = str(Reference.parse(ref)) if ref else ""
    if "@" in name:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    words = {"ref": name, "changes": change, "message": message, "platform": platform}
    return await _receive(transfers.receive(who, "import", uploads.body(request), **words))


async def _receive(receiving: Any) -> HttpResponseBase:
    """Refusals before the first line have their status; later ones are the last line: {"error": {…}}."""
    stack = AsyncExitStack()
    try:
        lines: transfers.Lines = await stack.enter_async_context(receiving)
        first = await anext(lines, None)
    except BaseException:
        await stack.aclose()
        raise
    return rest.lines(_told(stack, first, lines))


async def _told(stack: AsyncExitStack, first: dict[str, Any] | None, lines: transfers.Lines) -> AsyncIterator[bytes]:
    async with stack:
        try:
            if first is not None:
                yield orjson.dumps(first, option=orjson.OPT_APPEND_NEWLINE)
            async for line in lines:
                yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        except EngineError as error:
            yield orjson.dumps({"error": error.to_json()}, option=orjson.OPT_APPEND_NEWLINE)


def _shown(view: ImageView, shared_bytes: int) -> dict[str, Any]:
    config = view.record.config
    return {
        "id": view.id,
        "refs": list(view.refs),
        "size_bytes": view.record.size_bytes,
        "shared_bytes": shared_bytes,
        "architecture": str(config.get("architecture") or ""),
        "os": str(config.get("os") or "linux"),
        "created": view.record.created,
        "added_at": datetime.fromtimestamp(view.added_at_s, UTC),
        "public": view.public,
    }
