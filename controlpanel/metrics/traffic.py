"""Traffic by month: what hosts tell becomes rows, and rows become what people read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from django.db import models

from controlpanel.containers.models import Container
from controlpanel.metrics.models import ContainerTraffic, TenantTraffic
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require
from engine.model.traffic import Counts, Traffic, month_of

_COUNTS: Final = ("into_bytes", "into_packets", "out_bytes", "out_packets")


class Month(NamedTuple):
    month: str  # 2026-11, UTC
    counts: Counts


def note(told: Traffic, *, time_ns: int) -> bool:
    """Whether any of it is news. Of a tenant that is younger than the fact (another had its name), and of what has no row: nothing."""
    moment = datetime.fromtimestamp(time_ns / 1e9, UTC)
    tenants = dict(Tenant.objects.filter(name__in=told.tenants, created_at__lte=moment).values_list("name", "pk"))
    owners = dict(Container.everywhere.filter(engine_id__in=told.containers).values_list("engine_id", "tenant_id"))
    sums = {"month": told.month, "book": told.book}
    of_tenants = [
        TenantTraffic(tenant_id=tenants[name], **sums, **_columns(counts)) for name, counts in told.tenants.items() if name in tenants
    ]
    of_containers = [
        ContainerTraffic(tenant_id=owners[number], container=number, **sums, **_columns(counts))
        for number, counts in told.containers.items()
        if number in owners
    ]
    news = _put(TenantTraffic, "tenant_id", of_tenants, sums)
    return _put(ContainerTraffic, "container", of_containers, sums) or news


def _put(model: Any, key: str, rows: list[Any], sums: dict[str, str]) -> bool:
    """Those that are greater than what is there."""
    known = {
        getattr(row, key): _total(row) for row in model.everywhere.filter(**sums, **{f"{key}__in": [getattr(row, key) for row in rows]})
    }
    newer = [row for row in rows if _total(row) > known.get(getattr(row, key), 0)]
    unique = [key.removesuffix("_id"), *sums]
    model.everywhere.bulk_create(newer, update_conflicts=True, update_fields=_COUNTS, unique_fields=unique)
    return bool(newer)


def tidy() -> None:
    """What is left of containers that are gone; their tenant's sums have it."""
    ids = Container.everywhere.filter(engine_id=models.OuterRef("container"))
    ContainerTraffic.everywhere.filter(~models.Exists(ids)).delete()


def of_tenant(actor: Actor) -> list[Month]:
    """Newest first; this month is always there."""
    require(actor, "usage.view")
    return _months(TenantTraffic.objects.for_actor(actor))


def of_container(actor: Actor, container_id: str) -> list[Month]:
    """As of a tenant."""
    require(actor, "container.view")
    return _months(ContainerTraffic.objects.for_actor(actor).filter(container=container_id))


def _months(rows: models.QuerySet[Any]) -> list[Month]:
    found = {month_of(time.time()): Counts()}
    for row in rows:
        found[row.month] = found.get(row.month, Counts()) + Counts(**{name: getattr(row, name) for name in _COUNTS})
    return [Month(month, found[month]) for month in sorted(found, reverse=True)]


def _columns(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in _COUNTS}


def _total(row: Any) -> int:
    return sum(getattr(row, name) for name in _COUNTS)
