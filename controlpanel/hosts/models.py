"""Machines that run containers, and what was asked of them."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.conf import settings
from django.db import models

from controlpanel.tenants.models import TenantQuerySet
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import DISK, VOLUMES


class Host(models.Model):
    """A machine with a host worker on queue ``host.<name>``."""

    name = models.CharField(max_length=63, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(null=True)  # its events stream last said something
    facts = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def here(cls) -> Host:
        """The host beside this panel; its row is made at first sight."""
        return cls.objects.get_or_create(name=settings.SLIPWAY_HOST)[0]


class Operation(models.Model):
    """One message to one host: written before it is published, so that a lost message is sent again under the same id.

    The host journals outcomes by id: twice sent is once done.
    """

    tenant_id: int | None

    QUEUED, DONE, FAILED = "queued", "done", "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="operations")
    host = models.ForeignKey(Host, on_delete=models.PROTECT, related_name="operations")
    verb = models.CharField(max_length=50)  # container.start: as in permissions and audit
    object = models.CharField(max_length=300)  # what people call it
    actor = models.CharField(max_length=200)
    door = models.CharField(max_length=10)
    task = models.CharField(max_length=60)
    key = models.CharField(max_length=300)  # order per object
    payload = models.JSONField()
    # what rows will take of quotas when the host has answered; null: nothing. It counts while the operation is queued
    reserved_volumes = models.IntegerField(null=True)
    reserved_disk_bytes = models.BigIntegerField(null=True)
    reserved_project = models.BigIntegerField(null=True)  # Project.pk
    state = models.CharField(max_length=10, default=QUEUED)
    outcome = models.JSONField(null=True)  # what the host answered: {"ok": …} or {"error": …}
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    record = models.BigIntegerField(default=0)  # of the audit, in the tenant's chain; 0: what asked for it has the record

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Operation"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        indexes = [
            models.Index(fields=["tenant", "-created_at"], name="operations_of_tenant"),
            models.Index(fields=["created_at"], condition=models.Q(state="queued"), name="operations_queued"),
            models.Index(
                fields=["tenant"], condition=models.Q(state="queued", reserved_volumes__isnull=False), name="operations_reserving"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.object}"


_RESERVING: Final = "state = 'queued' AND reserved_volumes IS NOT NULL"

ledger.counted(VOLUMES, Operation, "SUM(reserved_volumes)", where=_RESERVING, project="reserved_project")
ledger.counted(DISK, Operation, "SUM(reserved_disk_bytes)", where=_RESERVING, project="reserved_project")
