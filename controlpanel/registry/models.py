"""What the registry holds, in rows. Bytes of blobs are storage's, those of manifests are here: a manifest is a document of some KiB.

    Repository ─┬─ Tag ──▶ Manifest ◀─ Need ─▶ Link ─▶ Blob ─▶ a file of storage
                ├─ Manifest            (of which of its blobs a manifest can't do without)
                ├─ Link                (the repository has this blob)
                ├─ Move                (a tag came, went, or was given to another manifest)
                └─ Upload              (bytes on their way)
    Rule, Sweep                        what a tenant keeps, and what went by that (retention.py)

A manifest that was deleted lies in the trash for a while (trash.py): nobody sees or reads it, nor the blobs that it alone needs, and its
bytes still count.

Nothing is counted beside the rows. A link goes with the last manifest that needs it, a blob with its last link, and a file with its
blob; foreign keys forbid the reverse, so that no crash between two steps leaves a manifest without its blobs.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from django.db import models

from controlpanel.tenants.models import TenantQuerySet
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import IMAGES

PRIVATE: Final = "private"  # for the tenant's own, as their roles allow
PUBLIC: Final = "public"  # everybody pulls, known or not
_DIGEST_MAX: Final = 7 + 128
_TYPE_MAX: Final = 255


def new_key() -> str:
    """Unguessable, and good in a path."""
    return secrets.token_hex(16)


class Repository(models.Model):
    """``name`` is the whole one, which begins with the tenant's. One without a manifest is there for nobody yet: it is being pushed to."""

    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="repositories")
    name = models.CharField(max_length=255, unique=True)
    visibility = models.CharField(max_length=10, default=PRIVATE, choices=[(PRIVATE, PRIVATE), (PUBLIC, PUBLIC)])
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Repository"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return self.name


class Blob(models.Model):
    """Bytes that are kept once for all who have them. ``file`` is storage's name of them and never used again: whoever removes the file
    of a blob that is gone can't meet the one of a blob that has just come back."""

    digest = models.CharField(max_length=_DIGEST_MAX, unique=True)
    size_bytes = models.BigIntegerField()
    file = models.CharField(max_length=200)
    checked_at = models.DateTimeField(null=True, db_index=True)  # its bytes were read again then (scrub.py)
    is_rotten = models.BooleanField(default=False)  # and were others than they had been
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.digest


class Link(models.Model):
    """This repository has this blob: whoever may pull from it may read it, and nobody else may by knowing its digest. Not ``live``: all
    that needs it lies in the trash, and nobody reads it."""

    repository_id: int
    tenant_id: int
    blob_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="links", db_index=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="links")
    live = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Link"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["repository", "blob"], name="registry_one_link_per_blob")]
        indexes = [models.Index(fields=["tenant", "blob"], name="registry_blobs_of_tenant")]

    def __str__(self) -> str:
        return f"{self.repository_id}: {self.blob_id}"


class Manifest(models.Model):
    """``body``: the very bytes that were pushed. The rest is what they say, for those who look without reading them."""

    repository_id: int
    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="manifests", db_index=False)
    digest = models.CharField(max_length=_DIGEST_MAX)
    media_type = models.CharField(max_length=_TYPE_MAX)
    artifact_type = models.TextField(blank=True)
    subject = models.CharField(max_length=_DIGEST_MAX, blank=True)  # the digest of the manifest that it is about, there or not
    annotations = models.JSONField(default=dict)  # of what has a subject alone: the referrers API tells them
    size_bytes = models.BigIntegerField()
    body = models.BinaryField()
    pushed_at = models.DateTimeField(auto_now_add=True)
    pushed_by = models.CharField(max_length=200)
    pulled_at = models.DateTimeField(null=True)  # some seconds late: pulling.py counts in memory first
    pulls = models.BigIntegerField(default=0)
    deleted_at = models.DateTimeField(null=True)  # it lies in the trash since then
    deleted_by = models.CharField(max_length=200, blank=True, default="")
    lost_tags = models.JSONField(default=list)  # the tags that it had when it was deleted

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Manifest"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["repository", "digest"], name="registry_one_manifest_per_digest")]
        indexes = [
            models.Index(fields=["tenant", "size_bytes"], name="registry_manifests_of_tenant"),
            models.Index(fields=["repository", "subject"], condition=~models.Q(subject=""), name="registry_referrers"),
            models.Index(fields=["deleted_at"], condition=models.Q(deleted_at__isnull=False), name="registry_trash"),
        ]

    def __str__(self) -> str:
        return self.digest


class Need(models.Model):
    """A manifest's use of a blob that its repository has."""

    link_id: int

    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="needs", db_index=False)
    link = models.ForeignKey(Link, on_delete=models.CASCADE, related_name="needs")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["manifest", "link"], name="registry_one_need_per_blob")]

    def __str__(self) -> str:
        return f"{self.manifest_id}: {self.link_id}"


class Tag(models.Model):
    repository_id: int

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="tags", db_index=False)
    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=128)
    pushed_at = models.DateTimeField(auto_now=True)
    pushed_by = models.CharField(max_length=200)
    pulled_at = models.DateTimeField(null=True)
    pulls = models.BigIntegerField(default=0)
    pinned = models.BooleanField(default=False)  # no rule takes it away

    class Meta:
        constraints = [models.UniqueConstraint(fields=["repository", "name"], name="registry_one_manifest_per_tag")]

    def __str__(self) -> str:
        return self.name


class Move(models.Model):
    """Of a tag: to a manifest, or away ("" as digest). What it was at any time is the last one before."""

    repository_id: int

    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="moves", db_index=False)
    tag = models.CharField(max_length=128)
    digest = models.CharField(max_length=_DIGEST_MAX, blank=True)
    at = models.DateTimeField(auto_now_add=True)
    by = models.CharField(max_length=200)

    class Meta:
        indexes = [models.Index(fields=["repository", "tag", "id"], name="registry_history_of_tag")]

    def __str__(self) -> str:
        return f"{self.tag}: {self.digest or 'away'}"


class Rule(models.Model):
    """Of a tenant, for its repositories and their tags by patterns (names.matches): which tags nobody moves (rules.py), and which stay
    (retention.py)."""

    IMMUTABLE = "immutable"
    KEEP = "keep"

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="registry_rules")
    kind = models.CharField(max_length=10, choices=[(IMMUTABLE, IMMUTABLE), (KEEP, KEEP)])
    repositories = models.CharField(max_length=255)  # behind the tenant's name
    tags = models.CharField(max_length=128, default="**")
    last = models.IntegerField(default=0)  # kept: so many that were pushed last
    pushed_days = models.IntegerField(default=0)  # and those pushed within so many days
    pulled_days = models.IntegerField(default=0)  # and those pulled within so many days
    untagged_days = models.IntegerField(default=0)  # what has no tag goes after so many days; 0: it stays
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Rule"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return f"{self.kind} {self.repositories}:{self.tags}"


class Sweep(models.Model):
    """One time that a tenant's rules were followed. ``gone``: [{"repository", "digest", "tags", "why"}], as many as fit."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="registry_sweeps")
    at = models.DateTimeField(auto_now_add=True)
    by = models.CharField(max_length=200)
    kept = models.IntegerField(default=0)
    removed = models.IntegerField(default=0)
    gone = models.JSONField(default=list)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Sweep"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return f"{self.tenant} {self.at}: {self.removed}"


class Upload(models.Model):
    """A blob on its way. ``key`` names it in the Location and in storage; ``offset``: the bytes that we have said we have."""

    repository_id: int
    tenant_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="uploads")
    key = models.CharField(max_length=32, unique=True, default=new_key)
    algorithm = models.CharField(max_length=10)  # of the digest that is taken while the bytes come
    offset = models.BigIntegerField(default=0)
    started_by = models.CharField(max_length=200)
    touched_at = models.DateTimeField(auto_now=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Upload"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        indexes = [
            models.Index(fields=["tenant", "offset"], name="registry_uploads_of_tenant"),
            models.Index(fields=["touched_at"], name="registry_uploads_by_age"),
        ]

    def __str__(self) -> str:
        return self.key


ledger.counted(IMAGES, Manifest, "SUM(size_bytes)")
ledger.counted(IMAGES, Upload, 'SUM("offset")')
