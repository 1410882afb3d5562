"""Rows that mirror what the hosts' stores hold, per tenant: the same image of two tenants is two rows and one store entry."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet
from engine.model.image import ImageRecord


class Image(models.Model):
    """An image one tenant may use, or (``tenant`` null) everybody."""

    tenant_id: int | None

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="images")
    image_id = models.CharField(max_length=71)  # sha256:… of the config blob
    config = models.JSONField()  # the OCI image config
    diff_ids = models.JSONField(default=list)
    chain_ids = models.JSONField(default=list)
    layer_bytes = models.JSONField(default=list)  # of each layer, base first; [] of one that came before this was counted
    size_bytes = models.BigIntegerField()
    created = models.CharField(max_length=40, blank=True)  # RFC 3339, as the config says
    added_at = models.DateTimeField(auto_now_add=True)
    told_ns = models.BigIntegerField(default=0)  # when the host had these names: what it told before is old news

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Image"](public=True)

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "image_id"], name="one_image_per_tenant"),
            models.UniqueConstraint(fields=["image_id"], condition=models.Q(tenant=None), name="one_public_image"),
        ]

    def __str__(self) -> str:
        return self.image_id[7:19]

    def to_record(self) -> ImageRecord:
        return ImageRecord(
            id=self.image_id,
            chain_ids=tuple(self.chain_ids),
            diff_ids=tuple(self.diff_ids),
            config=self.config,
            size_bytes=self.size_bytes,
            layer_bytes=tuple(self.layer_bytes),
            created=self.created,
        )


class Tag(models.Model):
    """A name of an image within its tenant: busybox:latest."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, null=True, related_name="+")
    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="tags")
    ref = models.CharField(max_length=400)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Tag"](public=True)

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "ref"], name="one_image_per_ref"),
            models.UniqueConstraint(fields=["ref"], condition=models.Q(tenant=None), name="one_image_per_public_ref"),
        ]

    def __str__(self) -> str:
        return self.ref
