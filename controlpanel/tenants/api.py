"""REST: the tenants a caller may see, their members and tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.accounts.models import Token
from controlpanel.accounts.services import user_named
from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.base.units import parse_lifetime
from controlpanel.tenants import queries, services
from controlpanel.tenants.actor import Role
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.tenants.rest import actor, caller

router = Router()

RoleName = Literal["owner", "admin", "developer", "operator", "viewer"]


class TenantOut(Schema):
    """Limits of 0 are no limits."""

    name: str
    role: RoleName
    docker_host: str
    nano_cpus: int
    memory_bytes: int
    pids: int
    disk_bytes: int
    containers_max: int
    created_at: datetime


class MemberOut(Schema):
    user: str
    role: RoleName
    since: datetime
    last_login: datetime | None


class MemberIn(Asked):
    role: RoleName


class TokenOut(Schema):
    id: int
    prefix: str
    name: str
    role: RoleName
    user: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    last_used_from: str


class NewTokenOut(TokenOut):
    secret: str


class TokenIn(Asked):
    name: str = Field("", max_length=100)
    role: RoleName = "viewer"
    expires: str = Field("", description="30d, 12h, 90m; empty: never")


@router.get("/tenants", response=list[TenantOut], summary="The tenants you belong to")
async def list_tenants(request: HttpRequest) -> list[dict[str, Any]]:
    who = caller(request)
    if who.token is not None:
        assert who.token.tenant is not None and who.token.role is not None
        return [_tenant(who.token.tenant, who.token.role)]
    assert who.user is not None
    return [_tenant(item.tenant, item.role) for item in await database.read(queries.memberships_of, who.user)]


@router.get("/tenants/{tenant}", response=TenantOut, summary="One tenant and its limits")
async def get_tenant(request: HttpRequest, tenant: str) -> dict[str, Any]:
    who = await actor(request, tenant, "tenant.view")
    assert who.tenant is not None and who.role is not None
    return _tenant(who.tenant, who.role)


@router.get("/tenants/{tenant}/members", response=list[MemberOut], summary="Who belongs to it")
async def list_members(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "member.view")
    return await database.read(lambda: [_member(item) for item in queries.members_of(who)])


@router.put("/tenants/{tenant}/members/{user}", response=MemberOut, summary="Add a member, or change a role")
async def put_member(request: HttpRequest, tenant: str, user: str, payload: MemberIn) -> dict[str, Any]:
    who = await actor(request, tenant, "member.add")
    return await database.run(lambda: _member(services.add_member(who, user_named(user), Role(payload.role))))


@router.delete("/tenants/{tenant}/members/{user}", response={204: None}, summary="Remove a member and their tokens")
async def remove_member(request: HttpRequest, tenant: str, user: str) -> Status[None]:
    who = await actor(request, tenant, "member.remove")
    await database.run(lambda: services.remove_member(who, user_named(user)))
    return Status(204, None)


@router.get("/tenants/{tenant}/tokens", response=list[TokenOut], summary="Its tokens, newest first")
async def list_tokens(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "token.view")
    return await database.read(lambda: [_token(token) for token in queries.tokens_of(who)])


@router.post("/tenants/{tenant}/tokens", response={201: NewTokenOut}, summary="Make a token; its secret is in this answer only")
async def create_token(request: HttpRequest, tenant: str, payload: TokenIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "token.create")
    lifetime = parse_lifetime(payload.expires)
    token, secret = await database.run(services.create_token, who, role=Role(payload.role), name=payload.name, lifetime=lifetime)
    return Status(201, {**_token(token), "secret": secret})


@router.delete("/tenants/{tenant}/tokens/{token_id}", response={204: None}, summary="Revoke a token")
async def revoke_token(request: HttpRequest, tenant: str, token_id: int) -> Status[None]:
    who = await actor(request, tenant, "token.revoke")
    await database.run(services.revoke_token, who, token_id)
    return Status(204, None)


def _tenant(tenant: Tenant, role: str | Role) -> dict[str, Any]:
    limits = {name: getattr(tenant, name) for name in services.LIMITS}
    return {"name": tenant.name, "role": str(role), "docker_host": tenant.endpoint, "created_at": tenant.created_at, **limits}


def _member(item: Membership) -> dict[str, Any]:
    return {"user": item.user.username, "role": item.role, "since": item.created_at, "last_login": item.user.last_login}


def _token(token: Token) -> dict[str, Any]:
    names = ("id", "prefix", "name", "role", "created_at", "expires_at", "last_used_at", "last_used_from")
    return {**{name: getattr(token, name) for name in names}, "user": token.user.username if token.user else None}
