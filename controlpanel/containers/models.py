"""A container as the panel knows it: what was asked (desired, spec) and what the host last said (status, state)."""

from __future__ import annotations

from typing import Any, Final

from django.db import models
from django.utils.translation import gettext_lazy as _

from controlpanel.tenants.models import TenantQuerySet
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import CONTAINERS, CPU, DISK, MEMORY, PIDS, PORTS, SWAP
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


TAKEN: Final = ("nano_cpus", "memory_bytes", "swap_bytes", "pids", "layer_bytes", "ports")  # columns that count in quotas


class Container(models.Model):
    """``version`` grows with every write: of two copies of one row the greater is newer."""

    tenant_id: int
    host_id: int
    project_id: int | None

    # without an index of its own: those of several columns below begin with it
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="containers", db_index=False)
    host = models.ForeignKey("hosts.Host", on_delete=models.PROTECT, related_name="containers")
    engine_id = models.CharField(max_length=64, unique=True)  # 64 hex digits: the container's id on every interface
    name = models.CharField(max_length=200)  # without the slash
    image_id = models.CharField(max_length=71)
    image = models.CharField(max_length=400)  # the words the user typed
    spec = models.JSONField()  # engine.model.container.ContainerSpec
    docker_config = models.JSONField(default=dict)  # Config with the image's defaults, in Docker's spelling
    docker_host_config = models.JSONField(default=dict)  # HostConfig as asked
    network_names = models.JSONField(default=dict)  # by id, of every network it has been in: a removed one has no other place to be named
    auto_remove = models.BooleanField(default=False)
    project = models.ForeignKey("tenants.Project", on_delete=models.SET_NULL, null=True, related_name="containers", db_index=False)
    memory_bytes = models.BigIntegerField(default=0)  # what it takes of its owners' quotas, from here to ``ports``
    swap_bytes = models.BigIntegerField(default=0)
    nano_cpus = models.BigIntegerField(default=0)
    pids = models.BigIntegerField(default=0)
    layer_bytes = models.BigIntegerField(default=0)
    ports = models.IntegerField(default=0)
    desired = models.CharField(max_length=10, choices=Desired, default=Desired.CREATED)
    status = models.CharField(max_length=10, choices=STATUSES, default=Status.CREATED.value)
    state = models.JSONField(default=dict)  # engine.model.container.ContainerState
    host_seq = models.BigIntegerField(default=-1)  # ContainerState.seq of ``state``; -1 = the host has not answered the create yet
    version = models.BigIntegerField(default=0)
    created_at_ns = models.BigIntegerField()

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Container"](view="container.view")

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_container_per_name")]
        indexes = [
            models.Index(fields=["tenant", "image_id"], name="containers_by_image"),
            # rows are long (JSON): sums of a tenant are read from these alone
            models.Index(fields=["tenant", "desired", "status", *TAKEN], name="containers_of_tenant"),
            models.Index(
                fields=["project", "desired", "status", *TAKEN], condition=models.Q(project__isnull=False), name="containers_of_project"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def takes_as_running(self) -> bool:
        """Its part of cpu, memory, swap, processes and ports is taken; as _RUNS says it for the database."""
        return self.desired in (Desired.RUNNING, Desired.RESTARTING) or self.status in _RUNNING

    def to_spec(self) -> ContainerSpec:
        return codec.from_json(ContainerSpec, self.spec)

    def to_state(self) -> ContainerState:
        """As the host last said; before its first word, a container that was never started."""
        return codec.from_json(ContainerState, self.state or {"id": self.engine_id})


# of those that run, are to run, or wait for their restart: two starts at once both count before the host has answered
_RUNNING: Final = (Status.RUNNING.value, Status.PAUSED.value, Status.RESTARTING.value)
_RUNS: Final = f"(desired IN ('running', 'restarting') OR status IN {_RUNNING})"

ledger.counted(CONTAINERS, Container, "COUNT(*)")
ledger.counted(DISK, Container, "SUM(layer_bytes)")
for _name, _column in ((CPU, "nano_cpus"), (MEMORY, "memory_bytes"), (SWAP, "swap_bytes"), (PIDS, "pids"), (PORTS, "ports")):
    ledger.counted(_name, Container, f"SUM({_column})", where=_RUNS)
