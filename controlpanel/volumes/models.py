"""Rows that mirror what volumes the hosts have, per tenant."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import DISK, VOLUMES
from engine.model.volume import VolumeSpec


class Volume(models.Model):
    """``created_ns``, the host's, tells two of one name apart that were there after each other."""

    tenant_id: int
    project_id: int | None

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="volumes")
    project = models.ForeignKey("tenants.Project", on_delete=models.SET_NULL, null=True, related_name="volumes", db_index=False)
    name = models.CharField(max_length=255)
    driver = models.CharField(max_length=60)
    options = models.JSONField(default=dict)
    labels = models.JSONField(default=dict)
    anonymous = models.BooleanField(default=False)
    size_bytes = models.BigIntegerField(default=0)  # what it may hold, 0 = no limit of its own
    limit = models.CharField(max_length=10, blank=True)  # how ``-o size`` holds
    created_ns = models.BigIntegerField()

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Volume"](view="volume.view")

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_volume_per_name")]
        indexes = [
            models.Index(fields=["tenant", "size_bytes"], name="volumes_of_tenant"),
            models.Index(fields=["project", "size_bytes"], condition=models.Q(project__isnull=False), name="volumes_of_project"),
        ]

    def __str__(self) -> str:
        return self.name

    def to_spec(self, tenant: str) -> VolumeSpec:
        return VolumeSpec(
            tenant=tenant,
            name=self.name,
            driver=self.driver,
            options=self.options,
            labels=self.labels,
            created_ns=self.created_ns,
            anonymous=self.anonymous,
            limit=self.limit,
        )


ledger.counted(VOLUMES, Volume, "COUNT(*)")
ledger.counted(DISK, Volume, "SUM(size_bytes)")
