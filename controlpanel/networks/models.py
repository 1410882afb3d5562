"""A bridge network that a tenant made. The tenant's default bridge and "none" have no row: see builtin."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import NETWORKS
from engine.model import codec
from engine.model.network import NetworkSpec, Pool
from engine.model.rules import Rules


class Network(models.Model):
    """``state``: creating (the host has not answered yet) → ready → removing."""

    CREATING, READY, REMOVING = "creating", "ready", "removing"

    tenant_id: int
    host_id: int
    project_id: int | None

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="networks")
    host = models.ForeignKey("hosts.Host", on_delete=models.PROTECT, related_name="networks")
    project = models.ForeignKey("tenants.Project", on_delete=models.SET_NULL, null=True, related_name="networks")
    network_id = models.CharField(max_length=64, unique=True)  # 64 hex digits: the network's id on every interface
    name = models.CharField(max_length=255)
    driver = models.CharField(max_length=20, default="bridge")
    internal = models.BooleanField(default=False)
    attachable = models.BooleanField(default=False)
    icc = models.BooleanField(default=True)  # its containers reach each other
    mtu = models.IntegerField(default=0)  # 0 = the host's
    asked_pool = models.JSONField(null=True, default=dict)  # engine.model.network.Pool; {} = the host chooses; None = no IPv4
    pool = models.JSONField(null=True, default=dict)  # the same, as the host gave it
    asked_ipv6_pool = models.JSONField(null=True, default=None)  # None = no IPv6
    ipv6_pool = models.JSONField(null=True, default=None)
    ipam = models.JSONField(default=dict)  # as asked: "auxiliary" and "ipv6_auxiliary" addresses by name, "options" of the driver, and
    # "ignored" configs of the family that it does without
    options = models.JSONField(default=dict)  # of the driver, as asked
    labels = models.JSONField(default=dict)
    rules = models.JSONField(default=dict)  # engine.model.rules.Rules, as the host has it
    state = models.CharField(max_length=10, default=CREATING)
    created_ns = models.BigIntegerField()

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Network"](view="network.view")

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_network_per_name")]

    def __str__(self) -> str:
        return self.name

    def to_spec(self) -> NetworkSpec:
        """As the host is asked for it."""
        return NetworkSpec(
            id=self.network_id,
            tenant=self.tenant.name,
            name=self.name,
            pool=codec.from_json(Pool | None, self.asked_pool),
            ipv6_pool=codec.from_json(Pool | None, self.asked_ipv6_pool),
            internal=self.internal,
            icc=self.icc,
            mtu=self.mtu,
            rules=codec.from_json(Rules, self.rules),
            shown={
                "tenant": self.tenant_id,
                "attachable": self.attachable,
                "asked_pool": self.asked_pool,
                "asked_ipv6_pool": self.asked_ipv6_pool,
                "ipam": self.ipam,
                "options": self.options,
                "labels": self.labels,
                "created_ns": self.created_ns,
            },
        )


ledger.counted(NETWORKS, Network, "COUNT(*)")
