"""Who acts, in which tenant, in which role, and through which door: made once per request, carried by value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlpanel.accounts.models import User
    from controlpanel.tenants.models import Tenant


class Role(StrEnum):
    """The five that every tenant has. What each may do stands in verbs.py alone."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Door(StrEnum):
    """Where an act came in."""

    PANEL = "panel"
    CLI = "cli"  # ./manage.py on the machine, as root
    API = "api"  # bearer token: REST or Docker API over HTTP
    TLS = "tls"  # a client's certificate: the same over TLS
    SOCKET = "socket"  # a tenant's docker.sock
    REGISTRY = "registry"  # /v2/: password, token or certificate
    SYSTEM = "system"  # the platform itself: reconcile, auto-remove


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A role as somebody has it: one of the five or the tenant's own, himself or through a group, in the tenant or in one project."""

    role: str
    verbs: frozenset[str]
    project: str = ""  # "" = in the whole tenant
    group: str = ""  # "" = granted to the member


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """``tenant`` is None for acts on the platform; ``operator`` may act on the platform and its tenants' existence.

    What one may do is the union of ``role`` and ``held``; a key takes away from that, by ``verbs`` and ``project``.
    """

    door: Door
    tenant: Tenant | None = None
    role: Role | None = None  # in the whole tenant, one of the five
    held: tuple[Held, ...] = ()  # and whatever else was granted
    user: User | None = None
    operator: bool = False
    address: str = ""  # of the client, as text; "uid 1000" on a socket
    name: str = ""  # shown when there is no user: "root", "token slw_Ab3d…"
    behind: User | None = None  # the operator who acts as ``user`` (tenants.impersonation)
    verbs: frozenset[str] | None = None  # these alone, of what the roles may; None: all of it
    project: str = ""  # in this one alone; "" = wherever the roles hold
    credential: tuple[str, ...] = ()  # what says so, for access.again: ("token", digest), ("uid", tenant, uid), …
    ends_at: datetime | None = None  # when that says so no more by itself

    @property
    def label(self) -> str:
        """For people: audit, operations, pages."""
        if self.user is not None and self.behind is not None:
            return f"{self.behind.username} as {self.user.username}"
        if self.user is not None:
            return f"{self.user.username} ({self.name})" if self.name else self.user.username
        return self.name or self.door.value

    @property
    def is_plain(self) -> bool:
        """One of the five roles in the whole tenant, and nothing else: of such an actor no object has to be asked whose it is."""
        return self.role is not None and not (self.held or self.project)

    @property
    def tenant_number(self) -> int:
        return self.tenant.pk if self.tenant is not None else 0

    @property
    def door_name(self) -> str:
        return self.door.value


def system(tenant: Tenant | None = None) -> Actor:
    """The platform acting on its own, for instance to remove a ``--rm`` container after its exit."""
    return Actor(door=Door.SYSTEM, tenant=tenant, role=Role.OWNER if tenant else None, operator=True, name="slipway")


def command_line(tenant: Tenant | None = None) -> Actor:
    """Root at ./manage.py."""
    return Actor(door=Door.CLI, tenant=tenant, role=Role.OWNER if tenant else None, operator=True, name="root")
