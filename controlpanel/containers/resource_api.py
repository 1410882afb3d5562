"""REST: limits, pause, processes and figures of a container. Words and refusals are those of the Docker API's verbs."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from controlpanel.base import rest
from controlpanel.containers import limits, measuring, pausing, projection, updating
from controlpanel.containers.api import ContainerOut, shown
from controlpanel.containers.changes import UpdateIn, to_docker
from controlpanel.tenants.rest import actor
from engine.errors import FailedPrecondition

router = Router()
_ONE = "/tenants/{tenant}/containers/{name}"


class UpdatedOut(ContainerOut):
    warnings: list[str]


class ProcessesOut(Schema):
    """As ps(1) of the host prints them; process numbers are the host's."""

    titles: list[str]
    processes: list[list[str]]


@router.post(_ONE + "/pause", response={204: None}, summary="Stop all its processes where they are")
async def pause_container(request: HttpRequest, tenant: str, name: str) -> Status[None]:
    who = await actor(request, tenant, "container.pause")
    await pausing.pause_container(who, name)
    return Status(204, None)


@router.post(_ONE + "/unpause", response={204: None}, summary="Let a paused container go on")
async def unpause_container(request: HttpRequest, tenant: str, name: str) -> Status[None]:
    who = await actor(request, tenant, "container.pause")
    await pausing.unpause_container(who, name)
    return Status(204, None)


@router.post(_ONE + "/update", response=UpdatedOut, summary="New limits, at once where it runs")
async def update_container(request: HttpRequest, tenant: str, name: str, payload: UpdateIn) -> dict[str, Any]:
    who = await actor(request, tenant, "container.update")
    view = await projection.container(who, name)
    warnings = await updating.update_container(who, view.id, to_docker(payload, limits.swap_of(view.docker_host_config)))
    return {**shown(await projection.container(who, view.id)), "warnings": list(warnings)}


@router.get(_ONE + "/processes", response=ProcessesOut, summary="What runs in it")
async def container_processes(request: HttpRequest, tenant: str, name: str, options: str = "") -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    return await measuring.processes(who, name, options)


@router.get(_ONE + "/stats", response=dict[str, Any], summary="What it uses, in the shape of Docker's stats: once, or a line a second")
async def container_stats(
    request: HttpRequest,
    tenant: str,
    name: str,
    stream: Annotated[bool, Query(description="JSON lines until it ends.")] = False,
    interval_s: Annotated[float, Query(description="Of a stream.", ge=0.2, le=60)] = 1.0,
) -> Any:
    who = await actor(request, tenant, "container.view")
    view = await projection.container(who, name)
    if stream:
        return rest.lines(await measuring.samples(view, interval_s))
    sample = await measuring.sample(view) if view.state.has_process else None
    if sample is None:
        raise FailedPrecondition(f"container {view.id} is not running")
    return sample
