"""REST: the open invitations of a tenant. Joining by one is a person's act, in the browser."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.base.units import parse_lifetime
from controlpanel.tenants import invitations
from controlpanel.tenants.models import Invitation
from controlpanel.tenants.rest import actor

router = Router()


class InvitationOut(Schema):
    id: int
    name: str = Field(description="Whom it is for.")
    role: str
    project: str = Field(description="The role holds in it alone; empty: in the whole tenant.")
    invited_by: str | None = Field(description="Null: root of the host.")
    created_at: datetime
    expires_at: datetime


class NewInvitationOut(InvitationOut):
    link: str = Field(description="In this answer only. Whoever opens it joins, once.")


class InvitationIn(Asked):
    name: str = Field("", max_length=100)
    role: str = Field("viewer", max_length=63, description="owner, admin, developer, operator, viewer, or one of the tenant's own.")
    project: str = Field("", max_length=63, description="In this project alone, which is there from the moment somebody joins.")
    expires: str = Field("7d", description="30d at most")


@router.get("/tenants/{tenant}/invitations", response=list[InvitationOut], summary="Open invitations, newest first")
async def list_invitations(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "member.add")
    return await database.read(lambda: [_shown(row) for row in invitations.open_invitations(who)])


@router.post("/tenants/{tenant}/invitations", response={201: NewInvitationOut}, summary="Invite somebody; the link is in this answer only")
async def create_invitation(request: HttpRequest, tenant: str, payload: InvitationIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "member.add", fresh=True)
    wanted = {"role": payload.role, "project": payload.project, "name": payload.name, "lifetime": parse_lifetime(payload.expires)}
    row, secret = await database.run(lambda: invitations.invite(who, **wanted))
    return Status(201, {**_shown(row), "link": request.build_absolute_uri(reverse("invitation", args=[secret]))})


@router.delete("/tenants/{tenant}/invitations/{number}", response={204: None}, summary="Revoke an invitation")
async def revoke_invitation(request: HttpRequest, tenant: str, number: int) -> Status[None]:
    who = await actor(request, tenant, "member.add")
    await database.run(invitations.revoke, who, number)
    return Status(204, None)


def _shown(row: Invitation) -> dict[str, Any]:
    names = ("name", "role", "project", "created_at", "expires_at")
    return {"id": row.pk, "invited_by": row.invited_by.username if row.invited_by else None, **{name: getattr(row, name) for name in names}}
