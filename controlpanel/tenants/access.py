"""From credentials to an Actor. Answers are kept for a second, and forgotten at once when a message says access changed.

A wrong credential is Unauthenticated, a right one for another tenant NotFound, a unix user who is no member PermissionDenied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from controlpanel.accounts.models import Token, User
from controlpanel.base import database, live
from controlpanel.tenants.actor import Actor, Door, Role
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.tenants.queries import no_such_tenant, tenant_named
from engine.errors import PermissionDenied, Unauthenticated

KEEP_S: Final = 1.0
KEEP_MAX: Final = 10_000  # answers; then all are forgotten
TOUCH_EACH: Final = timedelta(minutes=1)  # how exactly "last used" is kept

_known: dict[tuple[str, ...], tuple[float, Actor]] = {}
_generation = 0


async def actor_for_token(secret: str, *, address: str = "") -> Actor:
    """Of a bearer token, in its tenant and role. Unauthenticated when unknown or expired: nobody learns which."""
    digest = Token.digest_of(secret)
    return await _cached(("token", digest, address), lambda: _from_token(digest, address))


async def actor_for_uid(tenant_name: str, uid: int, *, pid: int = 0) -> Actor:
    """Who connected to a tenant's unix socket, by SO_PEERCRED. Root is an owner; others must be linked to a member."""
    return await _cached(("uid", tenant_name, str(uid)), lambda: _from_uid(tenant_name, uid))


async def actor_for_user(user: User, tenant_name: str, *, door: Door = Door.PANEL, address: str = "") -> Actor:
    """A logged-in user in one of their tenants. NotFound for a stranger, operators of the platform included."""
    return await _cached(("user", tenant_name, str(user.pk), door.value, address), lambda: member(user, tenant_name, door, address))


def member(user: User, tenant_name: str, door: Door = Door.PANEL, address: str = "") -> Actor:
    """``actor_for_user`` for synchronous views."""
    found = Membership.everywhere.select_related("tenant").filter(user=user, tenant__name=tenant_name).first()
    if found is None or not user.is_active:
        raise no_such_tenant(tenant_name)
    return Actor(door=door, tenant=found.tenant, role=Role(found.role), user=user, operator=user.is_superuser, address=address)


def platform_user(user: User, *, door: Door = Door.PANEL, address: str = "") -> Actor:
    """A logged-in user outside of any tenant."""
    return Actor(door=door, user=user, operator=user.is_superuser and user.is_active, address=address)


def forget() -> None:
    """Ask the database again from now on, in every process. To be called in the transaction that changes who may what."""
    live.on_commit({"kind": "access", "tenant": live.EVERYONE})


async def _cached(key: tuple[str, ...], find: Callable[[], Actor]) -> Actor:
    found = _known.get(key)
    if found is not None and found[0] > time.monotonic():
        return found[1]
    generation = _generation
    actor = await database.read(find)
    if generation == _generation:  # nothing was revoked while we read
        if len(_known) >= KEEP_MAX:
            _known.clear()
        _known[key] = (time.monotonic() + KEEP_S, actor)
    return actor


def _from_token(digest: str, address: str) -> Actor:
    token = Token.objects.select_related("tenant", "user").filter(digest=digest).first()
    if token is None or token.is_expired or (token.user is not None and not token.user.is_active):
        raise Unauthenticated("this token is unknown or expired: make a new one with ./manage.py token create")
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > TOUCH_EACH:
        Token.objects.filter(pk=token.pk).update(last_used_at=now, last_used_from=address)
    role = _no_more_than_member(token)
    name = f"token {token.prefix}…"
    return Actor(door=Door.API, tenant=token.tenant, role=role, user=token.user, address=address, name=name)


def _no_more_than_member(token: Token) -> Role:
    """A user's token ends with the membership, and follows it when the user was given a lesser role."""
    role = Role(token.role)
    if token.user is None:
        return role
    found = Membership.everywhere.filter(user=token.user, tenant=token.tenant).first()
    if found is None:
        raise Unauthenticated("this token is unknown or expired: make a new one with ./manage.py token create")
    order = list(Role)  # from most to least
    return order[max(order.index(role), order.index(Role(found.role)))]


def _from_uid(tenant_name: str, uid: int) -> Actor:
    tenant: Tenant = tenant_named(tenant_name)
    address = f"uid {uid}"
    if uid == 0:
        return Actor(door=Door.SOCKET, tenant=tenant, role=Role.OWNER, address=address, name="root")
    found = Membership.everywhere.select_related("user").filter(tenant=tenant, user__uid=uid, user__is_active=True).first()
    if found is None:
        raise PermissionDenied(
            f"unix user {uid} is not linked to a member of tenant {tenant_name}: an operator can link it with "
            f"./manage.py user create NAME --uid {uid} and ./manage.py member add {tenant_name} NAME --role developer",
            rule="member",
        )
    return Actor(door=Door.SOCKET, tenant=tenant, role=Role(found.role), user=found.user, address=address)


def _revoked(_message: live.Message, _row: Any) -> None:
    global _generation
    _generation += 1
    _known.clear()


live.on("access", _revoked)
live.on("tenant", _revoked)
live.on("gap", _revoked)
