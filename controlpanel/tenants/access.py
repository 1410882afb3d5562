"""From credentials to an Actor. Answers are kept for a second, and forgotten at once when a message says access changed.

A wrong credential is Unauthenticated, a right one for another tenant NotFound, a unix user who is no member PermissionDenied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from controlpanel.accounts.models import Certificate, Token, User
from controlpanel.base import database, live
from controlpanel.tenants import held
from controlpanel.tenants.actor import Actor, Door, Held, Role
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.tenants.queries import check_open, no_such_tenant, tenant_named
from engine.errors import PermissionDenied, Unauthenticated

KEEP_S: Final = 1.0
KEEP_MAX: Final = 10_000  # answers; then all are forgotten
ROOT: Final = "0"  # the unix user
_BROWSERS: Final = frozenset({b"origin", b"sec-fetch-site"})  # headers that no page can suppress
TOUCH_EACH: Final = timedelta(minutes=1)  # how exactly "last used" is kept

_known: dict[tuple[str, ...], tuple[float, Actor]] = {}
_generation = 0


async def actor_for_token(secret: str, *, address: str = "") -> Actor:
    """Of a bearer token, in its tenant and role. Unauthenticated when unknown or expired: nobody learns which."""
    return await _actor(("token", Token.digest_of(secret)), address)


async def actor_for_certificate(digest: str, *, address: str = "") -> Actor:
    """Of a certificate that our authority signed, by its fingerprint. Unauthenticated when it was revoked or has ended."""
    return await _actor(("certificate", digest), address)


def shown_certificate(scope: Mapping[str, Any]) -> str | None:
    """The fingerprint of what the client showed on the TLS port. A browser shows its certificate whatever page made it ask, so
    for a browser's requests it counts as none (CSRF); the session's cookie does, where cookies do."""
    digest: str | None = scope.get("extensions", {}).get("http.hijack", {}).get("certificate")
    if digest is not None and any(name in _BROWSERS for name, _value in scope["headers"]):
        return None
    return digest


async def actor_for_uid(tenant_name: str, uid: int, *, pid: int = 0) -> Actor:
    """Who connected to a tenant's unix socket, by SO_PEERCRED. Root is an owner; others must be linked to a member."""
    return await _actor(("uid", tenant_name, str(uid)), f"uid {uid}")


async def actor_for_user(user: User, tenant_name: str, *, door: Door = Door.PANEL, address: str = "") -> Actor:
    """A logged-in user in one of their tenants. NotFound for a stranger, operators of the platform included."""
    return await _actor(("user", tenant_name, str(user.pk), door.value), address)


async def actor_by(credential: tuple[str, ...], *, address: str = "") -> Actor:
    """Of what ``Actor.credential`` says. Raises as the above."""
    return await _actor(credential, address)


async def again(actor: Actor) -> Actor:
    """The same credential looked at now: another role, perhaps. Raises as above when it counts no more."""
    return await _actor(actor.credential, actor.address)


def member(user: User, tenant_name: str, door: Door = Door.PANEL, address: str = "") -> Actor:
    """``actor_for_user`` for synchronous views."""
    return _from_user(tenant_name, str(user.pk), door.value, address=address)


def platform_user(user: User, *, door: Door = Door.PANEL, address: str = "") -> Actor:
    """A logged-in user outside of any tenant."""
    return Actor(door=door, user=user, operator=user.is_superuser and user.is_active, address=address)


def forget(tenant: Tenant | None = None) -> None:
    """Ask the database again from now on, in every process. To be called in the transaction that changes who may what: in that tenant,
    or in any."""
    live.on_commit({"kind": "access", "tenant": live.EVERYONE, "of": tenant.pk if tenant else None})


async def _actor(credential: tuple[str, ...], address: str) -> Actor:
    kind, *words = credential
    return await _cached((*credential, address), lambda: _FINDERS[kind](*words, address=address))


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


def _from_token(digest: str, *, address: str) -> Actor:
    unknown = Unauthenticated("this token is unknown or expired: make a new one with ./manage.py token create")
    token = Token.objects.select_related("tenant", "user").filter(digest=digest).first()
    if token is None or token.is_expired:
        raise unknown
    return _from_credential(token, Door.API, f"token {token.prefix}…", address, unknown)


def _from_certificate(digest: str, *, address: str) -> Actor:
    """Our authority has signed it, so it may be told what became of it."""
    cure = "make another with ./manage.py context export"
    revoked = Unauthenticated(f"this certificate was revoked: {cure}")
    certificate = Certificate.objects.select_related("tenant", "user").filter(digest=digest).first()
    if certificate is None:
        raise revoked
    if certificate.is_expired:
        raise Unauthenticated(f"this certificate ended at {certificate.expires_at:%Y-%m-%d %H:%M} UTC: {cure}")
    return _from_credential(certificate, Door.TLS, f"certificate {certificate.prefix}…", address, revoked)


def _from_credential(row: Token | Certificate, door: Door, name: str, address: str, refusal: Unauthenticated) -> Actor:
    """A user's ends with the account and the membership, and follows when the user may less than it was made for."""
    check_open(row.tenant)
    holding = _robot(row)
    if row.user is not None:
        found = Membership.everywhere.filter(user=row.user, user__is_active=True, tenant=row.tenant).first()
        if found is None:
            raise refusal
        holding = _follows(row, held.of_member(found))
    now = timezone.now()
    if row.last_used_at is None or now - row.last_used_at > TOUCH_EACH:
        type(row).objects.filter(pk=row.pk).update(last_used_at=now, last_used_from=address)
    return Actor(
        door=door,
        tenant=row.tenant,
        role=holding.role,
        held=holding.held,
        user=row.user,
        address=address,
        name=name,
        verbs=frozenset(row.verbs) if row.verbs else None,
        project=row.project,
        credential=(type(row).__name__.lower(), row.digest),
        ends_at=row.expires_at,
    )


def _robot(row: Token | Certificate) -> held.Holding:
    """What a key of no user's holds: the role that it was made for."""
    if row.role in set(Role):
        return held.Holding(Role(row.role), ())
    verbs = held.verbs_of(row.tenant_id, [row.role])[row.role]
    return held.Holding(None, (Held(role=row.role, verbs=verbs),))


def _follows(row: Token | Certificate, owner: held.Holding) -> held.Holding:
    """What its owner holds, as far as the key's role may that. The five may the less the later they come, so of two the later one holds."""
    if row.role in set(Role) and owner.role is not None and not owner.held:
        order = list(Role)
        return held.Holding(order[max(order.index(Role(row.role)), order.index(owner.role))], ())
    return held.Holding(None, owner.within(held.verbs_of(row.tenant_id, [row.role])[row.role]))


def _from_uid(tenant_name: str, uid: str, *, address: str) -> Actor:
    tenant: Tenant = tenant_named(tenant_name)
    check_open(tenant)
    credential = ("uid", tenant_name, uid)
    if uid == ROOT:
        return Actor(door=Door.SOCKET, tenant=tenant, role=Role.OWNER, address=address, name="root", credential=credential)
    found = Membership.everywhere.select_related("user").filter(tenant=tenant, user__uid=int(uid), user__is_active=True).first()
    if found is None:
        raise PermissionDenied(
            f"unix user {uid} is not linked to a member of tenant {tenant_name}: an operator can link it with "
            f"./manage.py user create NAME --uid {uid} and ./manage.py member add {tenant_name} NAME --role developer",
            rule="member",
        )
    role, grants = held.of_member(found)
    return Actor(door=Door.SOCKET, tenant=tenant, role=role, held=grants, user=found.user, address=address, credential=credential)


def _from_user(tenant_name: str, number: str, door: str, *, address: str) -> Actor:
    members = Membership.everywhere.select_related("tenant", "user")
    found = members.filter(user=int(number), user__is_active=True, tenant__name=tenant_name).first()
    if found is None:
        raise no_such_tenant(tenant_name)
    check_open(found.tenant)
    role, grants = held.of_member(found)
    return Actor(
        door=Door(door),
        tenant=found.tenant,
        role=role,
        held=grants,
        user=found.user,
        operator=found.user.is_superuser,
        address=address,
        credential=("user", tenant_name, number, door),
    )


_FINDERS: Final[dict[str, Callable[..., Actor]]] = {  # and those of ``found_by``
    "token": _from_token,
    "certificate": _from_certificate,
    "uid": _from_uid,
    "user": _from_user,
}


def found_by(kind: str, find: Callable[..., Actor]) -> None:
    """``find(*words, address=…)`` makes the actor of a credential (kind, *words), or raises. Registered at import."""
    _FINDERS[kind] = find


def _revoked(_message: live.Message, _row: Any) -> None:
    global _generation
    _generation += 1
    _known.clear()


live.on("access", _revoked)
live.on("tenant", _revoked)
live.on("gap", _revoked)
