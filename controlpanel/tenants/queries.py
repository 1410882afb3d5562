"""Reads about tenants."""

from __future__ import annotations

from controlpanel.accounts.models import Token, User
from controlpanel.base import database
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Membership, Tenant
from engine.errors import NotFound


async def tenant_names() -> list[str]:
    """Of all tenants: the web process opens a socket for each."""
    return await database.read(lambda: list(Tenant.objects.order_by("name").values_list("name", flat=True)))


def tenant_named(name: str) -> Tenant:
    try:
        return Tenant.objects.get(name=name)
    except Tenant.DoesNotExist:
        raise no_such_tenant(name) from None


def no_such_tenant(name: str) -> NotFound:
    """The same words whether it does not exist or is somebody else's."""
    return NotFound(f"No such tenant: {name}")


def memberships_of(user: User) -> list[Membership]:
    """With their tenants, by name: the tenant switcher."""
    return list(Membership.everywhere.filter(user=user).select_related("tenant").order_by("tenant__name"))


def members_of(actor: Actor) -> list[Membership]:
    """Of the actor's tenant, by name."""
    return list(Membership.objects.for_actor(actor).select_related("user").order_by("user__username"))


def tokens_of(actor: Actor) -> list[Token]:
    """Of the actor's tenant, newest first."""
    return list(Token.objects.filter(tenant=actor.tenant).select_related("user"))
