"""A container as the panel knows it: what was asked (desired, spec) and what the host last said (status, state)."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from controlpanel.tenants.models import TenantQuerySet
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState, Status


class Desired(models.TextChoices):
    """Users write this, events write ``status``."""

    CREATED = "created", _("created")
    RUNNING = "running", _("running")
    STOPPED = "stopped", _("stopped")
    RESTARTING = "restarting", _("restarting")  # stopped to be started again: its next end is not the last
    REMOVED = "removed", _("removed")


STATUSES = [
    (Status.CREATED.value, _("created")),
    (Status.RUNNING.value, _("running")),
    (Status.PAUSED.value, _("paused")),
    (Status.RESTARTING.value, _("restarting")),
    (Status.EXITED.value, _("exited")),
    (Status.DEAD.value, _("dead")),
]


class Container(models.Model):
    """``version`` grows with every write: of two copies of one row the greater is newer."""

    tenant_id: int
    host_id: int

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="containers")
    host = models.ForeignKey("hosts.Host", on_delete=models.PROTECT, related_name="containers")
    engine_id = models.CharField(max_length=64, unique=True)  # 64 hex digits: the container's id on every interface
    name = models.CharField(max_length=200)  # without the slash
    image_id = models.CharField(max_length=71)
    image = models.CharField(max_length=400)  # the words the user typed
    spec = models.JSONField()  # engine.model.container.ContainerSpec
    docker_config = models.JSONField(default=dict)  # Config with the image's defaults, in Docker's spelling
    docker_host_config = models.JSONField(default=dict)  # HostConfig as asked
    auto_remove = models.BooleanField(default=False)
    memory_bytes = models.BigIntegerField(default=0)  # asked limits, for sums
    nano_cpus = models.BigIntegerField(default=0)
    pids = models.BigIntegerField(default=0)
    desired = models.CharField(max_length=10, choices=Desired, default=Desired.CREATED)
    status = models.CharField(max_length=10, choices=STATUSES, default=Status.CREATED.value)
    state = models.JSONField(default=dict)  # engine.model.container.ContainerState
    host_seq = models.BigIntegerField(default=-1)  # ContainerState.seq of ``state``; -1 = the host has not answered the create yet
    version = models.BigIntegerField(default=0)
    created_at_ns = models.BigIntegerField()

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Container"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_container_per_name")]
        indexes = [models.Index(fields=["tenant", "image_id"], name="containers_by_image")]

    def __str__(self) -> str:
        return self.name

    def to_spec(self) -> ContainerSpec:
        return codec.from_json(ContainerSpec, self.spec)

    def to_state(self) -> ContainerState:
        """As the host last said; before its first word, a container that was never started."""
        return codec.from_json(ContainerState, self.state or {"id": self.engine_id})
