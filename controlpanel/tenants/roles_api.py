"""REST: a tenant's roles, groups and grants."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.accounts.services import user_named
from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.tenants import explaining, groups, roles
from controlpanel.tenants.models import Grant, Group
from controlpanel.tenants.rest import actor, member_of

router = Router()


class RoleOut(Schema):
    name: str
    verbs: list[str]
    built_in: bool = Field(description="One of the five that every tenant has.")
    holders: list[str] = Field(description="Of the tenant's own: members, groups and keys that have it.")


class VerbsIn(Asked):
    verbs: list[str] = Field(description="container.view, container.*, …", max_length=200, examples=[["container.view"]])


class RoleIn(VerbsIn):
    name: str = Field(max_length=63, examples=["restarter"])


class GrantOut(Schema):
    id: int
    role: str
    user: str | None
    group: str | None
    project: str | None = Field(description="null: in the whole tenant.")


class GrantIn(Asked):
    role: str = Field(max_length=63)
    user: str = Field("", description="A user of this platform, who belongs to the tenant from then on; or group.")
    group: str = ""
    project: str = Field("", description="In this one alone; empty: in the whole tenant.", max_length=63)


class HeldOut(Schema):
    role: str
    group: str = Field(description="Through which; empty: the member's own.")
    project: str = Field(description="Where it holds; empty: in the whole tenant.")


class VerdictOut(Schema):
    allowed: bool
    sentence: str = Field(description="As a refusal says it: denied: rule container.remove of role viewer (granted to …).")
    by: list[HeldOut] = Field(description="What allows it there; of a refusal all that is held.")


class GroupOut(Schema):
    name: str
    members: list[str]
    grants: list[GrantOut]


class GroupIn(Asked):
    name: str = Field(max_length=63)


@router.get("/tenants/{tenant}/permissions/explain", response=VerdictOut, summary="Why you, or another member, may do something or not")
async def explain(request: HttpRequest, tenant: str, verb: str, project: str | None = None, user: str = "") -> dict[str, Any]:
    """Of oneself anybody may ask, whatever they may do. ``project``: there; anywhere when left out."""
    who = await member_of(request, tenant)
    found = await database.read(lambda: explaining.explain(who, verb, project=project, user=user))
    by = [{"role": each.role, "group": each.group, "project": each.project} for each in found.by]
    return {"allowed": found.allowed, "sentence": found.sentence, "by": by}


@router.get("/tenants/{tenant}/roles", response=list[RoleOut], summary="Its roles: the five of every tenant, and its own")
async def list_roles(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "role.view")
    return [role._asdict() for role in await database.read(roles.roles, who)]


@router.post("/tenants/{tenant}/roles", response={201: RoleOut}, summary="Make a role of its own: a name and a set of verbs")
async def create_role(request: HttpRequest, tenant: str, payload: RoleIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "role.create", fresh=True)
    made = await database.run(roles.create_role, who, payload.name, payload.verbs)
    return Status(201, made._asdict())


@router.put("/tenants/{tenant}/roles/{role}", response=RoleOut, summary="Change what a role of its own may")
async def change_role(request: HttpRequest, tenant: str, role: str, payload: VerbsIn) -> dict[str, Any]:
    who = await actor(request, tenant, "role.change", fresh=True)
    changed = await database.run(roles.change_role, who, role, payload.verbs)
    return changed._asdict()


@router.delete("/tenants/{tenant}/roles/{role}", response={204: None}, summary="Remove a role of its own that nobody holds")
async def remove_role(request: HttpRequest, tenant: str, role: str) -> Status[None]:
    who = await actor(request, tenant, "role.remove", fresh=True)
    await database.run(roles.remove_role, who, role)
    return Status(204, None)


@router.get("/tenants/{tenant}/groups", response=list[GroupOut], summary="Its groups, their members and what was granted to them")
async def list_groups(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "group.view")
    return await database.read(lambda: [_group(row) for row in groups.groups(who)])


@router.post("/tenants/{tenant}/groups", response={201: GroupOut}, summary="Make a group")
async def create_group(request: HttpRequest, tenant: str, payload: GroupIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "group.create", fresh=True)
    return Status(201, await database.run(lambda: _group(groups.create_group(who, payload.name))))


@router.delete("/tenants/{tenant}/groups/{group}", response={204: None}, summary="Remove a group, with what was granted to it")
async def remove_group(request: HttpRequest, tenant: str, group: str) -> Status[None]:
    who = await actor(request, tenant, "group.remove", fresh=True)
    await database.run(groups.remove_group, who, group)
    return Status(204, None)


@router.put("/tenants/{tenant}/groups/{group}/members/{user}", response=GroupOut, summary="Put a user into a group, and into the tenant")
async def add_to_group(request: HttpRequest, tenant: str, group: str, user: str) -> dict[str, Any]:
    who = await actor(request, tenant, "group.change", fresh=True)
    return await database.run(lambda: _group(groups.add_to_group(who, group, user_named(user))))


@router.delete("/tenants/{tenant}/groups/{group}/members/{user}", response=GroupOut, summary="Take a user out of a group")
async def take_from_group(request: HttpRequest, tenant: str, group: str, user: str) -> dict[str, Any]:
    who = await actor(request, tenant, "group.change", fresh=True)
    return await database.run(lambda: _group(groups.take_from_group(who, group, user_named(user))))


@router.get("/tenants/{tenant}/grants", response=list[GrantOut], summary="Roles that were granted beside the members' own")
async def list_grants(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "member.view")
    return await database.read(lambda: [_grant(row) for row in groups.grants(who)])


@router.post("/tenants/{tenant}/grants", response={201: GrantOut}, summary="Grant a role to a user or a group, in a project or the tenant")
async def create_grant(request: HttpRequest, tenant: str, payload: GrantIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "member.grant", fresh=True)
    words = {"user": payload.user, "group_name": payload.group, "project": payload.project}
    return Status(201, await database.run(lambda: _grant(groups.grant(who, payload.role, **words))))


@router.delete("/tenants/{tenant}/grants/{number}", response={204: None}, summary="Take a grant back; what rests on it is cut")
async def remove_grant(request: HttpRequest, tenant: str, number: int) -> Status[None]:
    who = await actor(request, tenant, "member.grant", fresh=True)
    await database.run(groups.revoke, who, number)
    return Status(204, None)


def _group(row: Group) -> dict[str, Any]:
    members = sorted(member.user.username for member in row.members.all())
    return {"name": row.name, "members": members, "grants": [_grant(grant) for grant in row.grants.all()]}


def _grant(row: Grant) -> dict[str, Any]:
    return {
        "id": row.pk,
        "role": row.role,
        "user": row.member.user.username if row.member else None,
        "group": row.group.name if row.group else None,
        "project": row.project.name if row.project else None,
    }
