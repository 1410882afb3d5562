"""REST: files of a volume, in and out, whole or one by one. Bytes are passed on as they come, in both directions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from django.http import HttpRequest, HttpResponseBase
from ninja import Query, Router, Schema, Status

from controlpanel.base import uploads
from controlpanel.files import answers, volumes
from controlpanel.files.api import FILE_BODY, TAR_BODY, Id, Octal, StatOut
from controlpanel.tenants.rest import actor

router = Router()
_VOLUME = "/tenants/{tenant}/volumes/{name}"
UPLOADS: Final = re.compile(r"/api/v1/tenants/[^/]+/volumes/[^/]+/files(/content)?")  # PUT: their bodies are streams
InVolume = Annotated[str, Query(description="In the volume, whose root is /.", examples=["/app.conf"])]


class EntryOut(StatOut):
    uid: int
    gid: int


class EntriesOut(Schema):
    """The first of ``count`` entries."""

    count: int
    entries: list[EntryOut]


@router.get(_VOLUME + "/files/list", response=EntriesOut, summary="What is in a folder of it")
async def list_files(request: HttpRequest, tenant: str, name: str, path: InVolume = "/") -> dict[str, Any]:
    who = await actor(request, tenant, "volume.files_read")
    found, count = await volumes.entries(who, name, path)
    return {"count": count, "entries": [{**entry, "link_target": entry["linkTarget"]} for entry in found]}


@router.get(_VOLUME + "/files/stat", response=StatOut, summary="One path in it; a link is not followed")
async def stat_volume_file(request: HttpRequest, tenant: str, name: str, path: InVolume) -> dict[str, Any]:
    who = await actor(request, tenant, "volume.files_read")
    said = await volumes.stat(who, name, path)
    return {**said, "link_target": said["linkTarget"]}


@router.get(_VOLUME + "/files", summary="A file or folder as a tar; without a path, all of it")
async def read_volume(request: HttpRequest, tenant: str, name: str, path: InVolume = "") -> HttpResponseBase:
    who = await actor(request, tenant, "volume.files_read")
    return await answers.tar(volumes.download(who, name, path), f"{name}.tar")


@router.put(_VOLUME + "/files", response={204: None}, summary="Extract a tar, compressed or not, into a folder", openapi_extra=TAR_BODY)
async def write_volume(request: HttpRequest, tenant: str, name: str, path: InVolume = "/") -> Status[None]:
    who = await actor(request, tenant, "volume.files_write")
    await volumes.upload(who, name, path, uploads.body(request))
    return Status(204, None)


@router.delete(_VOLUME + "/files", response={204: None}, summary="Remove a file, or a folder with all that is in it")
async def remove_volume_file(request: HttpRequest, tenant: str, name: str, path: InVolume) -> Status[None]:
    who = await actor(request, tenant, "volume.files_write")
    await volumes.remove(who, name, path)
    return Status(204, None)


@router.get(_VOLUME + "/files/content", summary="One file as it is; a link is followed")
async def read_volume_file(request: HttpRequest, tenant: str, name: str, path: InVolume) -> HttpResponseBase:
    who = await actor(request, tenant, "volume.files_read")
    said = await volumes.stat(who, name, path)
    return await answers.one_file(volumes.download(who, name, said["linkTarget"] or path), said["name"])


@router.put(_VOLUME + "/files/content", response={204: None}, summary="Write one file, new or anew", openapi_extra=FILE_BODY)
async def write_volume_file(
    request: HttpRequest,
    tenant: str,
    name: str,
    path: Annotated[str, Query(description="Of the file; its folder is there already.", examples=["/app.conf"])],
    mode: Octal = "644",
    uid: Id = 0,
    gid: Id = 0,
) -> Status[None]:
    who = await actor(request, tenant, "volume.files_write")
    folder, tar = answers.given(request, path, mode=mode, uid=uid, gid=gid)
    await volumes.upload(who, name, folder, tar)
    return Status(204, None)
