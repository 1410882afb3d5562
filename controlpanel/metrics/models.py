"""Sums of traffic as hosts tell them (engine.model.traffic): a row for each month, and for each book that a host has kept in it."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet


class _Sums(models.Model):
    month = models.CharField(max_length=7)  # 2026-11, UTC
    book = models.CharField(max_length=16)
    into_bytes = models.BigIntegerField(default=0)
    into_packets = models.BigIntegerField(default=0)
    out_bytes = models.BigIntegerField(default=0)
    out_packets = models.BigIntegerField(default=0)

    class Meta:
        abstract = True
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"


class TenantTraffic(_Sums):
    """Of all containers that it ever had, also of those without a row."""

    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["TenantTraffic"]()

    class Meta(_Sums.Meta):
        constraints = [models.UniqueConstraint(fields=["tenant", "month", "book"], name="one_tenant_traffic_per_month")]


class ContainerTraffic(_Sums):
    """Of one that has a row; ``traffic.tidy`` removes it after that."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")
    container = models.CharField(max_length=64)  # Container.engine_id

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["ContainerTraffic"]()

    class Meta(_Sums.Meta):
        constraints = [models.UniqueConstraint(fields=["container", "month", "book"], name="one_container_traffic_per_month")]
