"""One build, from when it was asked for. Its log is a file (builds/logs.py)."""

from __future__ import annotations

import time
from typing import Any, Final

from django.db import models
from django.db.models import Q

from controlpanel.tenants.models import TenantQuerySet
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import BUILD_MINUTES, BUILDS

DAY_NS: Final = 86_400 * 1_000_000_000


class Build(models.Model):
    """``state``: running (also while it waits for its turn) → done, failed or cancelled."""

    RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"

    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")
    build_id = models.CharField(max_length=32, unique=True)  # 32 hex digits
    client_id = models.CharField(max_length=128, blank=True, default="")  # by which the client may cancel it: Docker's buildid
    project = models.CharField(max_length=63, blank=True, default="")  # by the label that it gives its image
    tags = models.JSONField(default=list)
    source = models.CharField(max_length=400, default="")  # "" = an uploaded context, else its address
    dockerfile = models.CharField(max_length=400, default="")
    words = models.JSONField(default=dict)  # target, platform and the like, without values of arguments: they may be secret
    actor = models.CharField(max_length=200)
    door = models.CharField(max_length=40)
    state = models.CharField(max_length=10, default=RUNNING)
    error = models.TextField(blank=True, default="")
    image_id = models.CharField(max_length=71, blank=True, default="")
    began_ns = models.BigIntegerField()
    ended_ns = models.BigIntegerField(default=0)
    record = models.BigIntegerField(default=0)  # of the audit, in the tenant's chain

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Build"](view="image.view", project="project")

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        indexes = [
            models.Index(fields=["tenant", "-began_ns"], name="builds_by_time"),
            models.Index(fields=["tenant", "state", "ended_ns", "began_ns"], name="builds_of_tenant"),
        ]

    def __str__(self) -> str:
        return self.build_id[:12]


def seconds_today(tenant_id: int) -> int:
    """That the tenant's builds have taken since midnight, UTC, with those that run."""
    now = time.time_ns()
    midnight = now - now % DAY_NS
    today = Build.everywhere.filter(tenant_id=tenant_id).filter(Q(state=Build.RUNNING) | Q(ended_ns__gt=midnight))
    spans = today.values_list("began_ns", "ended_ns")
    return sum((ended or now) - max(began, midnight) for began, ended in spans) // 1_000_000_000


ledger.counted(BUILDS, Build, "COUNT(*)", where=f"state = '{Build.RUNNING}'")
ledger.counted_by(BUILD_MINUTES, lambda tenant_id: seconds_today(tenant_id) // 60)
