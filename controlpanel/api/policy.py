"""REST: what a tenant may have beyond a plain container. Members read it, operators of the platform change it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from controlpanel.base import database
from controlpanel.base.rest import Asked
from controlpanel.hosts import ceilings, tenants
from controlpanel.tenants import access
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import may
from controlpanel.tenants.policy import ITEMS, with_values
from controlpanel.tenants.queries import tenant_named
from controlpanel.tenants.rest import actor, caller, operator

router = Router()
_PLACE = "/tenants/{tenant}/policy"


class CeilingOut(Schema):
    """What root of the host grants at most: no policy gets a container more."""

    privileged: bool
    host_network: bool
    seccomp: bool
    capabilities: list[str]
    devices: list[str]
    registries: list[str]
    ports: list[str]
    addresses: list[str]
    folders: list[str] = Field(description="Of the host, that it may mount: PATH[:ro][,uid=N].")
    exports: list[str] = Field(description="Of NFS servers, for volumes.")


class PolicyOut(Schema):
    """Lists: empty is nothing, ["all"] everything."""

    privileged: bool = Field(
        description="docker run --privileged: without filter and masks, with every capability of its own user namespace."
    )
    host_network: bool
    seccomp: bool = Field(description="seccomp=unconfined, and profiles in place of the platform's own.")
    new_privileges: bool = Field(description="By set-user-id programs; false: no container can gain any.")
    capabilities: list[str] = Field(description="Beyond those that every container has.")
    devices: list[str] = Field(description="Of the host: /dev/NAME[:rwm].")
    registries: list[str] = Field(description="HOST[:PORT] of images that are pulled, pushed and built upon.")
    ports: list[str] = Field(description="Of the host, that may be published.")
    addresses: list[str] = Field(description="Of the host, or networks, on which ports may be published.")
    ceiling: CeilingOut | None = Field(description="Null: the host does not answer.")


class PolicyIn(Asked):
    """What is left out stays. A list is the whole of it."""

    privileged: bool | None = Field(None, examples=[False])
    host_network: bool | None = None
    seccomp: bool | None = None
    new_privileges: bool | None = None
    capabilities: list[str] | None = Field(None, examples=[["NET_ADMIN"]])
    devices: list[str] | None = Field(None, examples=[["/dev/fuse:rw"]])
    registries: list[str] | None = Field(None, examples=[["all"]])
    ports: list[str] | None = Field(None, examples=[["8000-8999", "443"]])
    addresses: list[str] | None = Field(None, examples=[["127.0.0.1"]])


@router.get(_PLACE, response=PolicyOut, summary="What it may have beyond a plain container")
async def get_policy(request: HttpRequest, tenant: str) -> dict[str, Any]:
    user = caller(request).user
    if user is not None and may(access.platform_user(user), "tenant.policy"):
        return await _shown(await database.read(tenant_named, tenant))
    who = await actor(request, tenant, "tenant.view")
    assert who.tenant is not None
    return await _shown(who.tenant)


@router.patch(_PLACE, response=PolicyOut, summary="Change it (operators)")
async def change_policy(request: HttpRequest, tenant: str, payload: PolicyIn) -> dict[str, Any]:
    who = operator(request, "tenant.policy", fresh=True)
    return await _shown(await tenants.change_policy(who, tenant, partial(with_values, values=payload.dict(exclude_none=True))))


async def _shown(tenant: Tenant) -> dict[str, Any]:
    return {**{item: getattr(tenant.policy, item) for item in ITEMS}, "ceiling": await ceilings.of_tenant(tenant)}
