"""Tenants and their members, and the door through which every tenant-owned row is read."""

from __future__ import annotations

from typing import Any, Final, Generic, Self, TypeVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from controlpanel.accounts.models import User
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.permissions import where
from controlpanel.tenants.policy import Policy
from controlpanel.tenants.policy import read as read_policy
from engine.model.bandwidth import Bandwidth
from engine.model.resources import Resources

M = TypeVar("M", bound=models.Model)


class TenantQuerySet(Generic[M]):
    """``Model.objects`` of every row a tenant owns: it yields nothing until somebody says for whom.

    The unscoped manager is called ``everywhere``; only ingest, reconcile and services that hold a row use it.
    """

    def __init__(self, *, public: bool = False, view: str = "", project: str = "project__name") -> None:
        self.public = public  # rows without a tenant are everybody's to see
        self.view = view  # of rows that may be in a project: the verb that it takes to see one; "" = they are the whole tenant's
        self.project = project  # where such a row has the project's name
        self._model: type[M] | None = None

    def __set_name__(self, owner: type[M], name: str) -> None:
        self._model = owner

    def for_actor(self, actor: Actor) -> models.QuerySet[M]:
        """What belongs to the tenant the actor acts in, and to the projects in which it may see that; nothing when it acts in none."""
        assert self._model is not None
        rows: models.QuerySet[M] = self._model.everywhere.all()  # type: ignore[attr-defined]
        if actor.tenant is None:
            return rows.none()
        mine = Q(tenant_id=actor.tenant.pk)
        if self.view and not actor.is_plain and (places := where(actor, self.view)) is not None:
            mine &= Q(**{f"{self.project}__in": places})
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


class Quota(models.Model):
    """What an owner may have at most; 0 = unlimited. tenants.quota.resources says what each column limits."""

    nano_cpus = models.BigIntegerField(_("CPU"), default=0)
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    swap_bytes = models.BigIntegerField(_("swap"), default=0)
    pids = models.BigIntegerField(_("processes"), default=0)
    disk_bytes = models.BigIntegerField(_("disk"), default=0)  # declared sizes of layers and volumes
    containers_max = models.IntegerField(_("containers"), default=0)
    volumes_max = models.IntegerField(_("volumes"), default=0)
    networks_max = models.IntegerField(_("networks"), default=0)  # beside bridge and none
    ports_max = models.IntegerField(_("published ports"), default=0)

    class Meta:
        abstract = True


class Tenant(Quota):
    """A customer, team or project: the owner of containers, images, networks and limits."""

    name = models.CharField(_("name"), max_length=63, unique=True)
    image_bytes = models.BigIntegerField(_("images"), default=0)  # of its own images' layers, each once
    log_bytes = models.BigIntegerField(_("logs"), default=0)  # the hosts' logger holds them
    builds_max = models.IntegerField(_("builds at once"), default=0)
    build_minutes = models.IntegerField(_("build minutes a day"), default=0)
    members_max = models.IntegerField(_("members"), default=0)
    tokens_max = models.IntegerField(_("tokens"), default=0)
    projects_max = models.IntegerField(_("projects"), default=0)
    bandwidth_in = models.BigIntegerField(_("incoming bytes a second"), default=0)  # of all its networks together
    bandwidth_out = models.BigIntegerField(_("outgoing bytes a second"), default=0)
    policy_words = models.JSONField(default=dict)  # what of ``policy`` is not as everybody has it
    hosts = models.JSONField(default=dict)  # host name → engine.model.tenant.TenantHost: where the tenant exists, and as what
    created_at = models.DateTimeField(auto_now_add=True)
    delete_at = models.DateTimeField(null=True)  # marked: its doors are closed, and then it goes; null: it is to stay
    ran = models.JSONField(default=list)  # ids of containers that were stopped for that, to be started if it is restored

    objects = TenantsQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    def wall(self) -> Resources:
        """The limits around all of the tenant's containers, as a host enforces them: of swap beside a limit of memory only."""
        both = self.memory_bytes + self.swap_bytes if self.memory_bytes and self.swap_bytes else 0
        return Resources(memory_bytes=self.memory_bytes, memory_swap_bytes=both, nano_cpus=self.nano_cpus, pids_limit=self.pids)

    def bandwidth(self) -> Bandwidth:
        return Bandwidth(into=self.bandwidth_in, out=self.bandwidth_out)

    @property
    def policy(self) -> Policy:
        return read_policy(self.policy_words)

    @property
    def socket_path(self) -> str:
        return str(settings.SLIPWAY_RUN / "tenants" / self.name / "docker.sock")

    @property
    def endpoint(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.socket_path}"


class Project(Quota):
    """A part of a tenant: the objects whose label ``com.docker.compose.project`` is its name. Its quota is within the tenant's.

    It is there as long as anything belongs to it, or somebody gave it a quota (tenants.projects).
    """

    tenant_id: int

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="projects")
    name = models.CharField(_("name"), max_length=63)
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Project"](view="project.view", project="name")

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_project_per_name")]

    def __str__(self) -> str:
        return self.name


class Impersonation(models.Model):
    """An operator of the platform who acts as a member of a tenant: tenants.impersonation. The audit log tells of it for good."""

    operator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    member = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    began_at = models.DateTimeField(auto_now_add=True)
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Impersonation"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        indexes = [models.Index(fields=["ends_at"], condition=models.Q(ended_at=None), name="impersonations_now")]

    def __str__(self) -> str:
        return f"{self.operator} as {self.member} in {self.tenant}"


class CustomRole(models.Model):
    """A tenant's own role, beside the five that all have: tenants.roles."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="roles")
    name = models.CharField(_("name"), max_length=63)
    verbs = models.JSONField(_("verbs"), default=list)  # sorted, of verbs.VERBS
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["CustomRole"]()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_custom_role_per_name")]
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return self.name


ROLES: Final = [
    (Role.OWNER.value, _("owner")),
    (Role.ADMIN.value, _("admin")),
    (Role.DEVELOPER.value, _("developer")),
    (Role.OPERATOR.value, _("operator")),
    (Role.VIEWER.value, _("viewer")),
]


def shown_role(name: str) -> str:
    """One of the five in the reader's language; a tenant's own by its name."""
    return str(dict(ROLES).get(name, name))


class Membership(models.Model):
    """That a user belongs to a tenant, and in which role. Without one ("") what the user may do is what was granted (Grant)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=63, blank=True, default="")  # one of the five, or the tenant's own
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Membership"]()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="one_role_per_member")]
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return f"{self.user} {self.role} of {self.tenant}"

    def get_role_display(self) -> str:
        return shown_role(self.role)


class Group(models.Model):
    """Members of a tenant who are granted roles together."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="groups")
    name = models.CharField(_("name"), max_length=63)
    members = models.ManyToManyField(Membership, related_name="groups")
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Group"]()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="one_group_per_name")]
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return self.name


class Grant(models.Model):
    """A role, by its name, for a member or a group, in the whole tenant or in one project: beside the role that the member has already."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="grants")
    role = models.CharField(_("role"), max_length=63)  # as Membership.role
    member = models.ForeignKey(Membership, on_delete=models.CASCADE, null=True, related_name="grants")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, null=True, related_name="grants")  # one of both
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="grants")  # None: in the whole tenant
    created_at = models.DateTimeField(auto_now_add=True)

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Grant"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(member__isnull=False, group__isnull=True) | models.Q(member__isnull=True, group__isnull=False),
                name="granted_to_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} to {self.whom} at {self.place}"

    @property
    def whom(self) -> str:
        return f"group {self.group.name}" if self.group is not None else self.member.user.username

    @property
    def place(self) -> str:
        return f"project {self.project.name}" if self.project is not None else f"tenant {self.tenant.name}"


class Invitation(models.Model):
    """An open door into a tenant, or one project of it, for whoever has its link: once, in one role, until it is over. Used or revoked,
    the row goes."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(_("role"), max_length=63)  # as Membership.role
    project = models.CharField(max_length=63, blank=True, default="")  # its name; "" = the whole tenant
    name = models.CharField(max_length=100, blank=True)  # whom it is for, in the words of who invites
    digest = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="+")  # None: root
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    everywhere: models.Manager[Any] = models.Manager()
    objects = TenantQuerySet["Invitation"]()

    class Meta:
        base_manager_name = "everywhere"
        default_manager_name = "everywhere"

    def __str__(self) -> str:
        return f"{self.role} of {self.tenant}"

    def get_role_display(self) -> str:
        return shown_role(self.role)
