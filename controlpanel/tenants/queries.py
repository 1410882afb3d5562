"""Reads about tenants."""

from __future__ import annotations

from controlpanel.accounts.models import Certificate, Token, User
from controlpanel.base import database
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Membership, Tenant
from engine.errors import NotFound, PermissionDenied


async def tenant_names() -> list[str]:
    """Of all tenants that are not marked for deletion: the web process opens a socket for each."""
    return await database.read(lambda: list(Tenant.objects.filter(delete_at=None).order_by("name").values_list("name", flat=True)))


def tenant_named(name: str) -> Tenant:
    try:
        return Tenant.objects.get(name=name)
    except Tenant.DoesNotExist:
        raise no_such_tenant(name) from None


def check_open(tenant: Tenant) -> None:
    """PermissionDenied for one that is marked for deletion. For those who belong to it: a stranger hears that there is none."""
    if tenant.delete_at is not None:
        raise PermissionDenied(
            f"tenant {tenant.name} is marked for deletion and goes at {tenant.delete_at:%Y-%m-%d %H:%M} UTC: until then an operator of the "
            f"platform brings it back with ./manage.py tenant restore {tenant.name}",
            rule="tenant.deleted",
        )


def no_such_tenant(name: str) -> NotFound:
    """The same words whether it does not exist or is somebody else's."""
    return NotFound(f"No such tenant: {name}")


def memberships_of(user: User) -> list[Membership]:
    """With their tenants, by name: the tenant switcher."""
    found = Membership.everywhere.filter(user=user, tenant__delete_at=None)
    return list(found.select_related("tenant").order_by("tenant__name"))


def members_of(actor: Actor) -> list[Membership]:
    """Of the actor's tenant, by name, with what was granted beside."""
    found = Membership.objects.for_actor(actor).select_related("user").prefetch_related("grants__project", "groups")
    return list(found.order_by("user__username"))


def tokens_of(actor: Actor) -> list[Token]:
    """Of the actor's tenant, newest first."""
    return list(Token.objects.filter(tenant=actor.tenant).select_related("user"))


def certificates_of(actor: Actor) -> list[Certificate]:
    """Of the actor's tenant, newest first."""
    return list(Certificate.objects.filter(tenant=actor.tenant).select_related("user"))
