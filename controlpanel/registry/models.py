"""What the registry holds, in rows. Bytes of blobs are storage's, those of manifests are here: a manifest is a document of some KiB.

    Repository ─┬─ Tag ──▶ Manifest ◀─ Need ─▶ Link ─▶ Blob ─▶ a file of storage
                ├─ Manifest            (of which of its blobs a manifest can't do without)
                ├─ Link                (the repository has this blob)
                └─ Upload              (bytes on their way)

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
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.digest


class Link(models.Model):
    """This repository has this blob: whoever may pull from it may read it, and nobody else may by knowing its digest."""

    repository_id: int
    tenant_id: int
    blob_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="links", db_index=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="links")
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

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Manifest"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["repository", "digest"], name="registry_one_manifest_per_digest")]
        indexes = [
            models.Index(fields=["tenant", "size_bytes"], name="registry_manifests_of_tenant"),
            models.Index(fields=["repository", "subject"], condition=~models.Q(subject=""), name="registry_referrers"),
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

    class Meta:
        constraints = [models.UniqueConstraint(fields=["repository", "name"], name="registry_one_manifest_per_tag")]

    def __str__(self) -> str:
        return self.name


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
