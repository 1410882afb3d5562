"""The audit log. A row is never changed or deleted: each carries the hash of the one before it in its tenant's chain.

Names are kept as text beside the tenant's number, not as foreign keys: the record outlives what it tells of.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson
from django.db import models

GENESIS: Final = "0" * 64

# Record.result. An act that a host is asked for is recorded before it is asked, and nothing follows when it is done.
DONE_AT_ONCE: Final = ""  # done, unless a later record ``about`` it says that it failed
BEGUN: Final = "begun"  # a stream of bytes: one of the next two follows, unless the panel was killed meanwhile
DONE: Final = "done"
FAILED: Final = "failed"
REFUSED: Final = "refused"  # by a role, a policy or a quota; ``detail["rule"]`` is which


class RecordQuerySet(models.QuerySet["Record"]):
    def for_tenant(self, tenant_id: int) -> RecordQuerySet:
        """Newest first."""
        return self.filter(tenant_number=tenant_id).order_by("-number")

    def update(self, **_changes: Any) -> int:
        raise TypeError("audit records are append-only")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise TypeError("audit records are append-only")


class Record(models.Model):
    """One act: who, through which door, from where, did what to which object, and what came of it."""

    tenant_number = models.BigIntegerField()  # Tenant.pk; 0 = the platform itself
    number = models.BigIntegerField()  # 1, 2, … within the tenant
    time_ns = models.BigIntegerField()
    actor = models.CharField(max_length=200)
    door = models.CharField(max_length=10)
    address = models.CharField(max_length=100, blank=True)
    verb = models.CharField(max_length=50)
    object = models.CharField(max_length=300)
    detail = models.JSONField(default=dict)
    result = models.CharField(max_length=10, blank=True, default=DONE_AT_ONCE)
    about = models.BigIntegerField(default=0)  # the number of an earlier record, whose result this is; 0: a record of its own
    hash = models.CharField(max_length=64)

    objects = RecordQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant_number", "number"], name="audit_one_record_per_number")]
        indexes = [
            models.Index(fields=["tenant_number", "-time_ns"], name="audit_by_time"),
            models.Index(fields=["tenant_number", "about"], condition=models.Q(about__gt=0), name="audit_outcomes"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.verb} {self.object}"

    def digest(self, previous: str) -> str:
        """SHA-256 over the hash before and this record's own words, in hex.

        A record without result and about hashes as it did before there were these two: lists of other lengths never meet.
        """
        words = [previous, self.tenant_number, self.number, self.time_ns, self.actor, self.door, self.address, self.verb]
        words += [self.object, self.detail]
        if self.result or self.about:
            words += [self.result, self.about]
        return hashlib.sha256(orjson.dumps(words, option=orjson.OPT_SORT_KEYS)).hexdigest()
