"""One build, from when it was asked for. Its log is a file (builds/logs.py)."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet


class Build(models.Model):
    """``state``: running (also while it waits for its turn) → done, failed or cancelled."""

    RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"

    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")
    build_id = models.CharField(max_length=32, unique=True)  # 32 hex digits
    client_id = models.CharField(max_length=128, blank=True, default="")  # by which the client may cancel it: Docker's buildid
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

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Build"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        indexes = [models.Index(fields=["tenant", "-began_ns"], name="builds_by_time")]

    def __str__(self) -> str:
        return self.build_id[:12]
