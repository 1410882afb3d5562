"""An operator of the platform acts in a tenant as one of its members would: announced, for a limited time, and recorded with both names.

    start   a row, a record in the tenant's chain, its key in the operator's session
    actor   who acts in a request of such a session: the member's role, never more, and ``behind`` it the operator
    end     by the button, by the time, by a logout or by the next start: a record in the tenant's chain, and streams end

What would outlast the visit (members, tokens) takes the member in person: verbs.IN_PERSON.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Protocol

from django.db import connection, transaction
from django.utils import timezone

from controlpanel.accounts.models import User
from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.tenants import access, held
from controlpanel.tenants.actor import Actor, Door, system
from controlpanel.tenants.models import Impersonation, Membership, Tenant
from controlpanel.tenants.permissions import require
from controlpanel.tenants.queries import no_such_tenant
from engine.errors import InvalidArgument, NotFound

SESSION_KEY: Final = "impersonation"
MINUTES_MAX: Final = 60
REASON_MAX: Final = 200


class Session(Protocol):
    """Of a request or a websocket, loaded already: asking who is logged in did that."""

    def get(self, key: str, default: Any = None) -> Any: ...


@transaction.atomic
def start(actor: Actor, tenant: Tenant, member: User, *, minutes: int, reason: str) -> Impersonation:
    """``reason`` is told to the tenant. The caller keeps the row's key in the session."""
    require(actor, "tenant.impersonate")
    assert actor.user is not None
    reason = reason.strip()
    if not reason:
        raise InvalidArgument("say why: the tenant reads it in its audit log")
    if not 0 < minutes <= MINUTES_MAX:
        raise InvalidArgument(f"{minutes} minutes: from 1 to {MINUTES_MAX}")
    if member == actor.user or not member.is_active:
        raise InvalidArgument(f"nobody can act as {member.username} here: it is yourself, or somebody who may not log in")
    if not Membership.everywhere.filter(tenant=tenant, user=member).exists():
        raise NotFound(f"No such member: {member.username}")
    for other in Impersonation.everywhere.filter(operator=actor.user, ended_at=None):
        _end(other, actor, "another was begun")
    row = Impersonation(operator=actor.user, tenant=tenant, member=member, ends_at=timezone.now() + timedelta(minutes=minutes))
    row.save(force_insert=True)
    words = {"until": row.ends_at.isoformat(timespec="seconds"), "reason": reason[:REASON_MAX]}
    audit.record(actor, "impersonation.start", member.username, tenant_number=tenant.pk, **words)
    return row


@transaction.atomic
def end(actor: Actor, key: int, how: str) -> None:
    """Of the operator's own; one that has ended is fine."""
    row = Impersonation.everywhere.select_for_update().filter(pk=key, operator=actor.user, ended_at=None).first()
    if row is not None:
        _end(row, actor, how)


def expire() -> int:
    """For the panel worker's schedule: those whose time is over."""
    connection.close_if_unusable_or_obsolete()
    over = list(Impersonation.everywhere.filter(ended_at=None, ends_at__lte=timezone.now()))
    for row in over:
        with transaction.atomic():
            if Impersonation.everywhere.select_for_update().filter(pk=row.pk, ended_at=None).exists():
                _end(row, system(), "its time was over")
    return len(over)


def _end(row: Impersonation, actor: Actor, how: str) -> None:
    row.ended_at = timezone.now()
    row.save(update_fields=["ended_at"])
    words = {"operator": row.operator.username, "how": how}
    audit.record(actor, "impersonation.end", row.member.username, tenant_number=row.tenant_id, **words)
    access.forget(row.tenant)


async def actor_for(user: User, session: Session, tenant: str, *, address: str = "") -> Actor:
    """Who acts in a tenant: the member whom this session's operator acts as, else ``access.actor_for_user``."""
    key = session.get(SESSION_KEY)
    if isinstance(key, int) and (found := await database.read(_acting, key, user.pk, tenant, address)) is not None:
        return found
    return await access.actor_for_user(user, tenant, address=address)


def _acting(key: int, operator: int, tenant: str, address: str) -> Actor | None:
    """None as soon as anything of it holds no more. The operator is read anew: what a session says of him may be old."""
    rows = Impersonation.everywhere.select_related("tenant", "member", "operator")
    row = rows.filter(pk=key, operator_id=operator, tenant__name=tenant, ended_at=None, ends_at__gt=timezone.now()).first()
    if row is None or not (row.operator.is_superuser and row.operator.is_active and row.member.is_active):
        return None
    membership = Membership.everywhere.filter(tenant=row.tenant, user=row.member).first()
    if membership is None:
        return None
    role, grants = held.of_member(membership)
    return Actor(
        door=Door.PANEL,
        tenant=row.tenant,
        role=role,
        held=grants,
        user=row.member,
        behind=row.operator,
        address=address,
        credential=("visit", str(key), str(operator), tenant),
        ends_at=row.ends_at,
    )


def _again(key: str, operator: str, tenant: str, *, address: str) -> Actor:
    found = _acting(int(key), int(operator), tenant, address)
    if found is None:
        raise no_such_tenant(tenant)
    return found


access.found_by("visit", _again)


def logged_out(request: Any, user: Any, **_words: Any) -> None:
    """Django's signal: the session is still there."""
    key = request.session.get(SESSION_KEY) if request is not None else None
    if isinstance(key, int) and isinstance(user, User):
        end(access.platform_user(user, address=request.META.get("REMOTE_ADDR", "")), key, "logged out")
