"""REST: what a tenant and its projects use of what they may."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.hosts import log_use
from controlpanel.tenants import projects
from controlpanel.tenants.quota.resources import Use
from controlpanel.tenants.rest import actor

router = Router()
_LIST: Final = "/tenants/{tenant}/projects"
_ONE: Final = "/tenants/{tenant}/projects/{project}"


class UseOut(Schema):
    """``limit`` 0: none. ``used`` null: nobody can tell just now. ``unit`` empty: just how many."""

    resource: str = Field(examples=["memory"])
    unit: str = Field(examples=["bytes"])
    limit: int
    used: int | None
    state: Literal["", "warning", "full", "over"] = Field(description="warning: 80 % and more; over: more than a limit set since.")


class ProjectOut(Schema):
    """Limits of 0 are no limits but the tenant's."""

    name: str
    created_at: datetime
    nano_cpus: int
    memory_bytes: int
    swap_bytes: int
    pids: int
    disk_bytes: int
    containers_max: int
    volumes_max: int
    networks_max: int
    ports_max: int


class ProjectDetailOut(ProjectOut):
    use: list[UseOut]


class QuotaIn(Asked):
    """What is left out stays. 0: no limit but the tenant's."""

    nano_cpus: int | None = Field(None, ge=0, lt=1 << 63, examples=[1_500_000_000])
    memory_bytes: int | None = Field(None, ge=0, lt=1 << 63)
    swap_bytes: int | None = Field(None, ge=0, lt=1 << 63)
    pids: int | None = Field(None, ge=0, lt=1 << 63)
    disk_bytes: int | None = Field(None, ge=0, lt=1 << 63)
    containers_max: int | None = Field(None, ge=0, lt=1 << 31)
    volumes_max: int | None = Field(None, ge=0, lt=1 << 31)
    networks_max: int | None = Field(None, ge=0, lt=1 << 31)
    ports_max: int | None = Field(None, ge=0, lt=1 << 31)


@router.get("/tenants/{tenant}/quota", response=list[UseOut], summary="What it uses of what it may, by resource")
async def tenant_quota(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "usage.view")
    assert who.tenant is not None
    return _shown(await log_use.with_logs(who.tenant))


@router.get(_LIST, response=list[ProjectOut], summary="Its projects, by name")
async def list_projects(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "project.view")
    return await database.read(lambda: [projects.shown(each) for each in projects.projects(who)])


@router.get(_ONE, response=ProjectDetailOut, summary="One project, and what it uses of what it may")
async def get_project(request: HttpRequest, tenant: str, project: str) -> dict[str, Any]:
    who = await actor(request, tenant, "project.view")
    return await database.read(lambda: {**projects.shown(projects.project(who, project)), "use": _shown(projects.use(who, project))})


@router.put(_ONE + "/quota", response={200: ProjectOut, 204: None}, summary="Change its limits, within the tenant's")
async def change_quota(request: HttpRequest, tenant: str, project: str, payload: QuotaIn) -> Status[dict[str, Any] | None]:
    """It is made when absent. 204: without limits and empty, it is gone."""
    who = await actor(request, tenant, "project.quota")
    limits = payload.dict(exclude_none=True)
    changed = await database.run(lambda: projects.change_quota(who, project, **limits))
    return Status(204, None) if changed is None else Status(200, projects.shown(changed))


def _shown(uses: Iterable[Use]) -> list[dict[str, Any]]:
    return [
        {"resource": use.resource.name, "unit": use.resource.unit, "limit": use.limit, "used": use.used, "state": use.state} for use in uses
    ]
