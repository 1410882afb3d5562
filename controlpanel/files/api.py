"""REST: files into and out of containers, what changed, any two compared, commit. Bytes are passed on as they come, in both directions."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Final, Literal

import orjson
from django.http import HttpRequest, HttpResponseBase
from ninja import Query, Router, Schema, Status
from pydantic import Field

from controlpanel.base import uploads
from controlpanel.base.rest import Asked
from controlpanel.files import answers, services
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.rest import actor
from engine.errors import InvalidArgument

router = Router()
_CONTAINER = "/tenants/{tenant}/containers/{name}"
UPLOADS: Final = re.compile(r"/api/v1/tenants/[^/]+/containers/[^/]+/files(/content)?")  # PUT: their bodies are streams
_BYTES: Final[dict[str, Any]] = {"type": "string", "format": "binary"}
TAR_BODY: Final = {"requestBody": {"required": True, "content": {"application/x-tar": {"schema": _BYTES}}}}
FILE_BODY: Final = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BYTES}}}}
InContainer = Annotated[str, Query(description="In the container.", examples=["/etc/hosts"])]
Octal = Annotated[str, Query(description="Octal.", pattern="^[0-7]{1,4}$")]
Id = Annotated[int, Query(description="Of user or group, as the container sees it.", ge=0, lt=1 << 16)]
_LINK: Final = 1 << 27  # Go's os.ModeSymlink
_KINDS = ("modified", "added", "deleted")
_LETTERS = dict(zip("MAD", _KINDS, strict=True))


class StatOut(Schema):
    """``mode`` as Go's os.FileMode, as Docker has it."""

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str


class ChangeOut(Schema):
    path: str
    kind: Literal["modified", "added", "deleted"]


class FactsOut(Schema):
    mode: int
    uid: int
    gid: int
    size: int


class DifferenceOut(Schema):
    """``what`` of a modified one: some of kind, mode, owner, device, size, time; empty when only something in the folder differs."""

    path: str
    kind: Literal["modified", "added", "deleted"]
    what: list[str]
    before: FactsOut | None
    after: FactsOut | None


class DiffOut(Schema):
    """The first of ``count`` differences; ``truncated`` when there are more than these."""

    count: int
    truncated: bool
    differences: list[DifferenceOut]


class TextOut(Schema):
    """A unified diff, "" when the two are equal, binary or too large to be compared by lines."""

    diff: str
    binary: bool
    too_large: bool
    truncated: bool


class CommitIn(Asked):
    ref: str = Field("", max_length=400, description="The image's name, as team/web:2. Empty: none.")
    author: str = ""
    comment: str = ""
    changes: list[str] = Field([], description='Dockerfile lines, as CMD ["nginx"].')
    pause: bool = Field(True, description="Hold its processes still meanwhile.")


class CommitOut(Schema):
    id: str


@router.get(_CONTAINER + "/changes", response=list[ChangeOut], summary="What differs from its image")
async def container_changes(request: HttpRequest, tenant: str, name: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "container.files_read")
    found = orjson.loads(await services.changes(who, name)) or []
    return [{"path": change["Path"], "kind": _KINDS[change["Kind"]]} for change in found]


@router.get(_CONTAINER + "/files/stat", response=StatOut, summary="One path in a container; a link is not followed")
async def stat_file(request: HttpRequest, tenant: str, name: str, path: InContainer) -> dict[str, Any]:
    who = await actor(request, tenant, "container.files_read")
    said = await services.stat(who, name, path)
    return {**said, "link_target": said["linkTarget"]}


@router.get(_CONTAINER + "/files", summary="A file or folder as a tar")
async def read_files(request: HttpRequest, tenant: str, name: str, path: InContainer) -> HttpResponseBase:
    who = await actor(request, tenant, "container.files_read")
    return await answers.tar(_chunks(services.download(who, name, path)), f"{name}.tar")


@router.put(_CONTAINER + "/files", response={204: None}, summary="Extract a tar, gzipped or not, into a folder", openapi_extra=TAR_BODY)
async def write_files(
    request: HttpRequest,
    tenant: str,
    name: str,
    path: Annotated[str, Query(description="The folder; it is there already.", examples=["/srv"])],
    no_overwrite: Annotated[bool, Query(description="No folder takes a file's place, no file a folder's.")] = False,
    copy_owner: Annotated[bool, Query(description="What is written belongs to the container's user.")] = False,
) -> Status[None]:
    who = await actor(request, tenant, "container.files_write")
    await services.upload(who, name, path, uploads.body(request), no_overwrite=no_overwrite, copy_owner=copy_owner)
    return Status(204, None)


@router.get(_CONTAINER + "/files/content", summary="One file as it is; a link is followed")
async def read_file(request: HttpRequest, tenant: str, name: str, path: InContainer) -> HttpResponseBase:
    who = await actor(request, tenant, "container.files_read")
    said = await services.stat(who, name, path)
    target = said["linkTarget"] if said["mode"] & _LINK else path
    return await answers.one_file(_chunks(services.download(who, name, target)), said["name"])


@router.put(_CONTAINER + "/files/content", response={204: None}, summary="Write one file, new or anew", openapi_extra=FILE_BODY)
async def write_file(
    request: HttpRequest,
    tenant: str,
    name: str,
    path: Annotated[str, Query(description="Of the file; its folder is there already.", examples=["/etc/app.conf"])],
    mode: Octal = "644",
    uid: Id = 0,
    gid: Id = 0,
) -> Status[None]:
    who = await actor(request, tenant, "container.files_write")
    folder, tar = answers.given(request, path, mode=mode, uid=uid, gid=gid)
    await services.upload(who, name, folder, tar, file=path)
    return Status(204, None)


@router.get(_CONTAINER + "/export", summary="All its files as one tar, without what is mounted in it")
async def export_container(request: HttpRequest, tenant: str, name: str) -> HttpResponseBase:
    who = await actor(request, tenant, "container.files_read")
    return await answers.tar(_chunks(services.export(who, name)), f"{name}.tar")


@router.post(_CONTAINER + "/commit", response={201: CommitOut}, summary="Make an image of it")
async def commit_container(request: HttpRequest, tenant: str, name: str, payload: CommitIn | None = None) -> Status[dict[str, str]]:
    who = await actor(request, tenant, "container.commit")
    asked = payload or CommitIn()
    image_id = await services.commit(
        who, name, ref=asked.ref, author=asked.author, comment=asked.comment, changes=asked.changes, pause=asked.pause
    )
    return Status(201, {"id": image_id})


@router.get("/tenants/{tenant}/diff", response=DiffOut, summary="From one container or image to another: container:web, image:nginx:1")
async def compare(request: HttpRequest, tenant: str, old: str, new: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.files_read")
    found = await services.diff(who, await side(who, old), await side(who, new))
    lines = [{**line, "kind": _LETTERS[line["kind"]]} for line in found.lines]
    return {"count": found.count, "truncated": found.count > len(lines), "differences": lines}


@router.get("/tenants/{tenant}/diff/text", response=TextOut, summary="The text of one file in both, as a unified diff")
async def compare_text(request: HttpRequest, tenant: str, old: str, new: str, path: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.files_read")
    return await services.text_diff(who, await side(who, old), await side(who, new), path)


async def side(who: Actor, words: str) -> services.Side:
    """``container:NAME`` or ``image:NAME``."""
    kind, colon, name = words.partition(":")
    if not colon or not name:
        raise InvalidArgument(f"{words!r} must be container:NAME or image:NAME")
    return await services.side(who, kind, name)


@asynccontextmanager
async def _chunks(found: AbstractAsyncContextManager[services.Download]) -> AsyncIterator[AsyncIterator[bytes]]:
    async with found as download:
        yield download.chunks
