"""What Docker's ``events`` tells, kept so that ``--since`` has something to answer."""

from __future__ import annotations

from typing import Any

from django.db import models

from controlpanel.tenants.models import TenantQuerySet


class Event(models.Model):
    """One event in Docker's vocabulary; the id orders them."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+")
    time_ns = models.BigIntegerField()
    type = models.CharField(max_length=20)  # container, image, network, …
    action = models.TextField()  # start, die, exec_create: sh -c …
    actor_id = models.CharField(max_length=400)  # container id, image id or name
    attributes = models.JSONField(default=dict)
    project = models.CharField(max_length=63, blank=True, default="")  # of what it is about

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Event"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        ordering = ["id"]
        indexes = [models.Index(fields=["tenant", "time_ns"], name="events_by_time")]

    def __str__(self) -> str:
        return f"{self.type} {self.action} {self.actor_id}"

    def to_docker(self) -> dict[str, Any]:
        """The JSON object of Docker's event stream, with the legacy members up to API 1.51."""
        out: dict[str, Any] = {}
        if self.type in {"container", "image"}:
            out = {"status": self.action, "id": self.actor_id}
            if self.type == "container":
                out["from"] = self.attributes.get("image", "")
        out |= {
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.actor_id, "Attributes": self.attributes},
            "scope": "local",
            "time": self.time_ns // 1_000_000_000,
            "timeNano": self.time_ns,
        }
        return out
