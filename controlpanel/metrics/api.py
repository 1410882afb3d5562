"""REST: traffic by month (not in Docker)."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from controlpanel.base import database
from controlpanel.containers import projection
from controlpanel.metrics import traffic
from controlpanel.metrics.traffic import Month
from controlpanel.tenants.rest import actor

router = Router()


class TrafficOut(Schema):
    """IPv4 in and out, within a network as well. At most a minute old."""

    month: str = Field(description="Of UTC, the newest first.", examples=["2026-11"])
    into_bytes: int
    into_packets: int
    out_bytes: int
    out_packets: int


@router.get("/tenants/{tenant}/traffic", response=list[TrafficOut], summary="What all its containers ever sent and received, by month")
async def tenant_traffic(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "tenant.view")
    return [_shown(month) for month in await database.read(traffic.of_tenant, who)]


@router.get("/tenants/{tenant}/containers/{name}/traffic", response=list[TrafficOut], summary="What it sent and received, by month")
async def container_traffic(request: HttpRequest, tenant: str, name: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "container.view")
    view = await projection.container(who, name)
    return [_shown(month) for month in await database.read(traffic.of_container, who, view.id)]


def _shown(month: Month) -> dict[str, Any]:
    names = ("into_bytes", "into_packets", "out_bytes", "out_packets")
    return {"month": month.month, **{name: getattr(month.counts, name) for name in names}}
