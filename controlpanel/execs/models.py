"""A command in a container as the panel knows it. Its container is named by id: a row outlives it until it is tidied away."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet
from engine.model import codec
from engine.model.execution import ExecSpec


class Exec(models.Model):
    """created → running → ended; a row that is ``started`` and has no exit code runs, as far as anybody has said."""

    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")
    container = models.CharField(max_length=64, db_index=True)  # its id
    exec_id = models.CharField(max_length=64, unique=True)  # 64 hex digits
    spec = models.JSONField()  # engine.model.execution.ExecSpec
    detach_keys = models.CharField(max_length=200, default="", blank=True)
    started = models.BooleanField(default=False)
    pid = models.BigIntegerField(default=0)  # on the host; known when it has ended, or to who asks the host
    exit_code = models.IntegerField(null=True, default=None)
    created_at_ns = models.BigIntegerField()
    finished_at_ns = models.BigIntegerField(default=0)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Exec"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return self.exec_id[:12]

    def to_spec(self) -> ExecSpec:
        return codec.from_json(ExecSpec, self.spec)
