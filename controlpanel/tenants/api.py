"""REST: the tenants a caller may see, and their members. Their keys: credentials_api.py."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.accounts.services import user_named
from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.tenants import queries, services
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.tenants.rest import actor, caller

router = Router()


class TenantOut(Schema):
    """Limits of 0 are no limits."""

    name: str
    role: str = Field(description="In the whole tenant: one of the five, or one of its own; empty: only what was granted to you.")
    docker_host: str
    nano_cpus: int
    memory_bytes: int
    swap_bytes: int
    pids: int
    disk_bytes: int
    containers_max: int
    volumes_max: int
    networks_max: int
    ports_max: int = Field(description="How many ports may be published at once.")
    image_bytes: int
    log_bytes: int
    builds_max: int
    build_minutes: int = Field(description="That builds may take in a day, UTC.")
    members_max: int
    tokens_max: int
    projects_max: int
    bandwidth_in: int = Field(description="Bytes a second into all its networks together.")
    bandwidth_out: int = Field(description="The same of what comes out of them.")
    created_at: datetime


class MemberOut(Schema):
    user: str
    role: str = Field(description="In the whole tenant; empty: only what was granted.")
    since: datetime
    last_login: datetime | None


class MemberIn(Asked):
    role: str = Field(description="owner, admin, developer, operator, viewer, or one of the tenant's own", max_length=63)


@router.get("/tenants", response=list[TenantOut], summary="The tenants you belong to")
async def list_tenants(request: HttpRequest) -> list[dict[str, Any]]:
    who = caller(request)
    if who.bound is not None:
        assert who.bound.tenant is not None
        return [_tenant(who.bound.tenant, _role(who.bound))]
    assert who.user is not None
    return [_tenant(item.tenant, item.role) for item in await database.read(queries.memberships_of, who.user)]


@router.get("/tenants/{tenant}", response=TenantOut, summary="One tenant and its limits")
async def get_tenant(request: HttpRequest, tenant: str) -> dict[str, Any]:
    who = await actor(request, tenant, "tenant.view")
    assert who.tenant is not None
    return _tenant(who.tenant, _role(who))


@router.get("/tenants/{tenant}/members", response=list[MemberOut], summary="Who belongs to it")
async def list_members(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "member.view")
    return await database.read(lambda: [_member(item) for item in queries.members_of(who)])


@router.put("/tenants/{tenant}/members/{user}", response=MemberOut, summary="Add a member, or change a role")
async def put_member(request: HttpRequest, tenant: str, user: str, payload: MemberIn) -> dict[str, Any]:
    who = await actor(request, tenant, "member.add", fresh=True)
    return await database.run(lambda: _member(services.add_member(who, user_named(user), payload.role)))


@router.delete("/tenants/{tenant}/members/{user}", response={204: None}, summary="Remove a member and their tokens")
async def remove_member(request: HttpRequest, tenant: str, user: str) -> Status[None]:
    who = await actor(request, tenant, "member.remove", fresh=True)
    await database.run(lambda: services.remove_member(who, user_named(user)))
    return Status(204, None)


def _role(who: Actor) -> str:
    """In the whole tenant: the first of several."""
    return who.role.value if who.role else next((each.role for each in who.held if not each.project and not each.group), "")


def _tenant(tenant: Tenant, role: str) -> dict[str, Any]:
    limits = {name: getattr(tenant, name) for name in services.LIMITS}
    return {
        "name": tenant.name,
        "role": role,
        "docker_host": tenant.endpoint,
        "created_at": tenant.created_at,
        **limits,
    }


def _member(item: Membership) -> dict[str, Any]:
    return {"user": item.user.username, "role": item.role, "since": item.created_at, "last_login": item.user.last_login}
