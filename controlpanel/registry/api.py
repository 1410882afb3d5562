"""REST: the repositories of a tenant, and who may pull from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.db.models import Count
from django.http import HttpRequest
from ninja import Router, Schema, Status

from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.registry import services
from controlpanel.registry.models import Repository
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.rest import actor

router = Router()


class RepositoryOut(Schema):
    name: str
    visibility: str
    tags: int
    created_at: datetime


class VisibilityIn(Asked):
    """``private``: for the tenant's own, as their roles allow. ``public``: everybody pulls, known or not."""

    visibility: Literal["private", "public"]


@router.get("/tenants/{tenant}/repositories", response=list[RepositoryOut], summary="List the registry's repositories")
async def list_repositories(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    """With the names that clients push to and pull from, behind HOST:PORT/."""
    return await database.read(_listed, await actor(request, tenant, "registry.pull"))


def _listed(who: Actor) -> list[dict[str, Any]]:
    rows = Repository.objects.for_actor(who).annotate(count=Count("tags")).order_by("name")
    return [{"name": row.name, "visibility": row.visibility, "tags": row.count, "created_at": row.created_at} for row in rows]


@router.patch("/tenants/{tenant}/repositories/{path:name}", response={204: None}, summary="Say who may pull from a repository")
async def change_repository(request: HttpRequest, tenant: str, name: str, asked: VisibilityIn) -> Status[None]:
    who = await actor(request, tenant, "registry.visibility")
    await database.run(services.set_visibility, who, name, asked.visibility)
    return Status(204, None)
