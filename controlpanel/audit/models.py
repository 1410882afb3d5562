"""The audit log. A row is never changed or deleted: each carries the hash of the one before it in its tenant's chain.

Names are kept as text beside the tenant's number, not as foreign keys: the record outlives what it tells of.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import models

GENESIS = "0" * 64


class RecordQuerySet(models.QuerySet["Record"]):
    def for_tenant(self, tenant_id: int) -> RecordQuerySet:
        """Newest first."""
        return self.filter(tenant_number=tenant_id).order_by("-number")

    def update(self, **_changes: Any) -> int:
        raise TypeError("audit records are append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("audit records are append-only")


class Record(models.Model):
    """One act: who, through which door, from where, did what to which object."""

    tenant_number = models.BigIntegerField()  # Tenant.pk; 0 = the platform itself
    number = models.BigIntegerField()  # 1, 2, … within the tenant
    time_ns = models.BigIntegerField()
    actor = models.CharField(max_length=200)
    door = models.CharField(max_length=10)
    address = models.CharField(max_length=100, blank=True)
    verb = models.CharField(max_length=50)
    object = models.CharField(max_length=300)
    detail = models.JSONField(default=dict)
    hash = models.CharField(max_length=64)

    objects = RecordQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant_number", "number"], name="audit_one_record_per_number")]
        indexes = [models.Index(fields=["tenant_number", "-time_ns"], name="audit_by_time")]

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.object}"

    def digest(self, previous: str) -> str:
        """SHA-256 over the hash before and this record's own words, in hex."""
        words = [previous, self.tenant_number, self.number, self.time_ns, self.actor, self.door, self.address, self.verb]
        text = json.dumps([*words, self.object, self.detail], separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
