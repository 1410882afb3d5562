"""REST: volumes, who uses them, and what Docker has no word for: sizes that change, copies, snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.volumes import users
from controlpanel.dockerapi.volumes import unused
from controlpanel.tenants import projects
from controlpanel.tenants.rest import actor
from controlpanel.volumes import copies, projection, services
from engine.model.volume import VolumeSpec

router = Router()
_LIST: Final = "/tenants/{tenant}/volumes"
_ONE: Final = "/tenants/{tenant}/volumes/{name}"
_SNAPSHOT: Final = "/tenants/{tenant}/volumes/{name}/snapshots/{snapshot}"


class VolumeOut(Schema):
    """``size_bytes``: what it may hold, 0 without a limit. ``used_by``: names of the containers that mount it."""

    name: str
    project: str = Field(description="Empty: none.")
    driver: str
    size_bytes: int
    labels: dict[str, str]
    options: dict[str, str]
    anonymous: bool
    created_at: datetime
    used_by: list[str]


class SnapshotOut(Schema):
    name: str
    made_at: datetime


class VolumeDetailOut(VolumeOut):
    """``used_bytes``: what its files hold now."""

    used_bytes: int
    snapshots: list[SnapshotOut]


class VolumeIn(Asked):
    name: str = Field("", description="Empty: one is made up, and a prune takes it.", examples=["data"])
    size: str = Field("", description="What it may hold at most; empty: no limit of its own.", examples=["10g"])
    labels: dict[str, str] = Field({}, examples=[{"team": "shop"}])
    options: dict[str, str] = Field({}, description="Of the driver local, as docker volume create -o takes them.")


class NameIn(Asked):
    name: str = Field(min_length=1, max_length=255, examples=["data2"])


class SizeIn(Asked):
    size: str = Field(min_length=1, max_length=40, examples=["20g"])


class VolumePruneIn(Asked):
    all: bool = Field(False, description="Also volumes with names, as far as no container mounts them.")
    labels: list[str] = Field([], description="Only with these: name or name=value.")
    without_labels: list[str] = Field([], description="Only without these.")


class VolumesPrunedOut(Schema):
    names: list[str]
    bytes: int


@router.get(_LIST, response=list[VolumeOut], summary="Its volumes, by name")
async def list_volumes(request: HttpRequest, tenant: str, project: str = "") -> list[dict[str, Any]]:
    who = await actor(request, tenant, "volume.view")
    mounted = await users(who)
    return [_shown(spec, mounted) for spec in await projection.volumes(who) if not project or projects.name_of(spec.labels) == project]


@router.post(_LIST, response={201: VolumeOut}, summary="Make a volume; one of that name is there already: that one")
async def create_volume(request: HttpRequest, tenant: str, payload: VolumeIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "volume.create")
    options = {**payload.options, **({"size": payload.size} if payload.size else {})}
    made = await services.create(who, payload.name, options=options, labels=payload.labels)
    return Status(201, _shown(made, await users(who)))


@router.get(_ONE, response=VolumeDetailOut, summary="One volume, with what its files hold and its snapshots")
async def get_volume(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "volume.view")
    spec, told = await projection.volume(who, name), await copies.told(who, name)
    found = [{"name": each, "made_at": _moment(made_ns)} for each, made_ns in told["snapshots"].items()]
    return {**_shown(spec, await users(who)), "used_bytes": told["bytes"], "snapshots": found}


@router.delete(_ONE, response={204: None}, summary="Remove a volume that no container mounts, with all that is in it")
async def remove_volume(
    request: HttpRequest, tenant: str, name: str, force: Annotated[bool, Query(description="One that is not there is fine.")] = False
) -> Status[None]:
    who = await actor(request, tenant, "volume.remove")
    await services.remove(who, name, force=force)
    return Status(204, None)


@router.post("/tenants/{tenant}/volume-prune", response=VolumesPrunedOut, summary="Remove volumes that no container mounts")
async def prune_volumes(request: HttpRequest, tenant: str, payload: VolumePruneIn | None = None) -> dict[str, Any]:
    who = await actor(request, tenant, "volume.prune")
    asked = payload or VolumePruneIn()  # type: ignore[call-arg]
    names = [spec.name for spec in await unused(who, named=asked.all, labels=asked.labels, without=asked.without_labels)]
    done = await services.prune(who, names)
    return {"names": list(done.names), "bytes": done.bytes}


@router.post(_ONE + "/rename", response=VolumeOut, summary="Give a volume that no container mounts another name")
async def rename_volume(request: HttpRequest, tenant: str, name: str, payload: NameIn) -> dict[str, Any]:
    who = await actor(request, tenant, "volume.rename")
    return _shown(await copies.rename(who, name, payload.name), await users(who))


@router.post(_ONE + "/clone", response={201: VolumeOut}, summary="A copy under another name; blocks are shared where the disk can")
async def clone_volume(request: HttpRequest, tenant: str, name: str, payload: NameIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "volume.clone")
    return Status(201, _shown(await copies.clone(who, name, payload.name), await users(who)))


@router.post(_ONE + "/resize", response=VolumeOut, summary="Another size for one that has a size, also while containers run with it")
async def resize_volume(request: HttpRequest, tenant: str, name: str, payload: SizeIn) -> dict[str, Any]:
    who = await actor(request, tenant, "volume.resize")
    return _shown(await copies.resize(who, name, payload.size), await users(who))


@router.post(_ONE + "/snapshots", response={204: None}, summary="Take a snapshot")
async def take_snapshot(request: HttpRequest, tenant: str, name: str, payload: NameIn) -> Status[None]:
    who = await actor(request, tenant, "volume.snapshot")
    await copies.snapshot(who, name, payload.name, "take")
    return Status(204, None)


@router.post(_SNAPSHOT + "/restore", response={204: None}, summary="Return to a snapshot, while no container runs with the volume")
async def restore_snapshot(request: HttpRequest, tenant: str, name: str, snapshot: str) -> Status[None]:
    who = await actor(request, tenant, "volume.snapshot")
    await copies.snapshot(who, name, snapshot, "restore")
    return Status(204, None)


@router.delete(_SNAPSHOT, response={204: None}, summary="Remove a snapshot")
async def remove_snapshot(request: HttpRequest, tenant: str, name: str, snapshot: str) -> Status[None]:
    who = await actor(request, tenant, "volume.snapshot")
    await copies.snapshot(who, name, snapshot, "remove")
    return Status(204, None)


def _shown(spec: VolumeSpec, mounted: Mapping[str, list[ContainerView]]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "project": projects.name_of(spec.labels),
        "driver": spec.driver,
        "size_bytes": spec.size_bytes,
        "labels": spec.labels,
        "options": spec.options,
        "anonymous": spec.anonymous,
        "created_at": _moment(spec.created_ns),
        "used_by": [view.name for view in mounted.get(spec.name, ())],
    }


def _moment(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
