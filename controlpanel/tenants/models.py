"""Tenants and their members, and the door through which every tenant-owned row is read."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from controlpanel.accounts.models import User
from controlpanel.tenants.actor import Actor, Role
from engine.model.resources import Resources

M = TypeVar("M", bound=models.Model)


class TenantQuerySet(Generic[M]):
    """``Model.objects`` of every row a tenant owns: it yields nothing until somebody says for whom.

    The unscoped manager is called ``everywhere``; only ingest, reconcile and services that hold a row use it.
    """

    def __init__(self, *, public: bool = False) -> None:
        self.public = public  # rows without a tenant are everybody's to see
        self._model: type[M] | None = None

    def __set_name__(self, owner: type[M], name: str) -> None:
        self._model = owner

    def for_actor(self, actor: Actor) -> models.QuerySet[M]:
        """What belongs to the tenant the actor acts in; nothing when it acts in none."""
        assert self._model is not None
        rows: models.QuerySet[M] = self._model.everywhere.all()  # type: ignore[attr-defined]
        if actor.tenant is None:
            return rows.none()
        mine = Q(tenant_id=actor.tenant.pk)
        return rows.filter(mine | Q(tenant=None) if self.public else mine)

    def for_member(self, user: User) -> models.QuerySet[M]:
        """What belongs to any tenant the user is a member of."""
        assert self._model is not None
        rows: models.QuerySet[M] = self._model.everywhere.all()  # type: ignore[attr-defined]
        mine = Q(tenant__memberships__user=user)
        return rows.filter(mine | Q(tenant=None) if self.public else mine).distinct()


class TenantsQuerySet(models.QuerySet["Tenant"]):
    def for_member(self, user: User) -> Self:
        """Tenants the user belongs to, by name."""
        return self.filter(memberships__user=user).distinct().order_by("name")


class Tenant(models.Model):
    """A customer, team or project: the owner of containers, images, networks and limits. 0 = unlimited."""

    name = models.CharField(_("name"), max_length=63, unique=True)
    nano_cpus = models.BigIntegerField(_("CPU"), default=0)
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    pids = models.BigIntegerField(_("processes"), default=0)
    disk_bytes = models.BigIntegerField(_("disk"), default=0)
    containers_max = models.IntegerField(_("containers"), default=0)
    force_no_new_privileges = models.BooleanField(default=False)
    hosts = models.JSONField(default=dict)  # host name → engine.model.tenant.TenantHost: where the tenant exists, and as what
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantsQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def wall(self) -> Resources:
        """The limits around all of the tenant's containers, as a host enforces them."""
        return Resources(memory_bytes=self.memory_bytes, nano_cpus=self.nano_cpus, pids_limit=self.pids)

    @property
    def socket_path(self) -> str:
        return str(settings.SLIPWAY_RUN / "tenants" / self.name / "docker.sock")

    @property
    def endpoint(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.socket_path}"


class Membership(models.Model):
    """A user's role in a tenant."""

    ROLES = [
        (Role.OWNER.value, _("owner")),
        (Role.ADMIN.value, _("admin")),
        (Role.DEVELOPER.value, _("developer")),
        (Role.OPERATOR.value, _("operator")),
        (Role.VIEWER.value, _("viewer")),
    ]

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=10, choices=ROLES)
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Membership"]()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_role_per_member")]
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return f"{self.user} {self.role} of {self.tenant}"
