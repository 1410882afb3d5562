"""Invitations to a tenant, or to one project of it, by a link. No mail server is needed: who invites hands the link on, and whoever opens
it may join once.

A link works while its maker could give the role by hand: it dies with the maker's membership. Only its SHA-256 is kept, as of tokens.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from controlpanel.accounts.models import User
from controlpanel.audit import services as audit
from controlpanel.tenants import access, projects, roles
from controlpanel.tenants.actor import Actor, Door, Role
from controlpanel.tenants.models import CustomRole, Grant, Invitation, Membership
from controlpanel.tenants.permissions import check_no_more, may, require, verbs_of
from controlpanel.tenants.queries import check_open
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import MEMBERS
from engine.errors import EngineError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded

OPEN_MAX: Final = 100  # of a tenant
LONGEST: Final = timedelta(days=30)


def digest_of(secret: str) -> str:
    """256 random bits: there is nothing to guess, so a fast hash does."""
    return hashlib.sha256(secret.encode()).hexdigest()


def open_invitations(actor: Actor) -> list[Invitation]:
    """Of the actor's tenant, newest first; those that are over are not among them."""
    require(actor, "member.add")
    return list(Invitation.objects.for_actor(actor).filter(expires_at__gt=timezone.now()).select_related("invited_by").order_by("-pk"))


@transaction.atomic
def invite(actor: Actor, *, role: str, project: str = "", name: str = "", lifetime: timedelta | None = None) -> tuple[Invitation, str]:
    """The invitation and the secret of its link, which is known this once only. ``role``: one of the five or the tenant's own, in the whole
    tenant or in one project. ``name``: whom it is for, as a reminder."""
    require(actor, "member.add")
    if project:
        require(actor, "member.grant")
        projects.check_name(project)
    assert actor.tenant is not None
    if role == Role.OWNER and project:
        raise InvalidArgument("owner is a role in the whole tenant: invite to a project as admin")
    if role == Role.OWNER and actor.role is not Role.OWNER:
        raise PermissionDenied("only owners make, change or remove owners", rule="member.owner")
    check_no_more(actor, roles.verbs_of_named(actor, role), f"whoever comes as {role}")
    if lifetime is None or lifetime > LONGEST:
        raise InvalidArgument("an invitation lasts 30 days at most: say 7d or 12h")
    Invitation.objects.for_actor(actor).filter(expires_at__lte=timezone.now()).delete()
    if Invitation.objects.for_actor(actor).count() >= OPEN_MAX:
        raise QuotaExceeded(f"tenant {actor.tenant.name} has {OPEN_MAX} open invitations: revoke some first")
    secret = secrets.token_urlsafe(32)
    row = Invitation.everywhere.create(
        tenant=actor.tenant,
        role=str(role),
        project=project,
        name=name.strip()[:100],
        digest=digest_of(secret),
        invited_by=actor.user,
        expires_at=timezone.now() + lifetime,
    )
    audit.record(actor, "invitation.create", row.name or f"#{row.pk}", **_words(row), expires=row.expires_at.isoformat())
    return row, secret


@transaction.atomic
def revoke(actor: Actor, number: int) -> None:
    require(actor, "member.add")
    row = Invitation.objects.for_actor(actor).filter(pk=number).first()
    if row is None:
        raise NotFound(f"No such invitation: {number}")
    words = _words(row)
    row.delete()
    audit.record(actor, "invitation.revoke", row.name or f"#{number}", **words)


def find(secret: str) -> Invitation:
    """The same words for one that never was, that was used, revoked or is over, and whose maker may no longer give it."""
    row = Invitation.everywhere.select_related("tenant", "invited_by").filter(digest=digest_of(secret)).first()
    if row is None or row.expires_at <= timezone.now() or not _stands(row):
        raise NotFound("this invitation does not exist, was used already, or is over: ask for a new one")
    return row


def _stands(row: Invitation) -> bool:
    try:
        check_open(row.tenant)
        if row.invited_by is None:  # root's
            return row.role in set(Role) or CustomRole.everywhere.filter(tenant=row.tenant, name=row.role).exists()
        maker = access.member(row.invited_by, row.tenant.name)
        gives = roles.verbs_of_named(maker, row.role) <= verbs_of(maker)
    except EngineError:
        return False
    return may(maker, "member.add") and gives and (row.role != Role.OWNER or maker.role is Role.OWNER)


@transaction.atomic
def accept(user: User, secret: str, *, address: str = "") -> Membership:
    """The user is a member, and the link is used up. Whoever belongs to the tenant already keeps the role, and a link to the whole tenant
    stays good; one to a project adds to what they have."""
    row = find(secret)
    membership: Membership | None = Membership.everywhere.filter(tenant=row.tenant, user=user).first()
    if membership is not None and not row.project:
        raise FailedPrecondition(f"{user.username} belongs to {row.tenant.name} already; an admin can change the role")
    if not Invitation.everywhere.filter(pk=row.pk).delete()[0]:
        raise NotFound("this invitation does not exist, was used already, or is over: ask for a new one")
    CustomRole.everywhere.select_for_update().filter(tenant=row.tenant, name=row.role).first()  # which nobody removes meanwhile
    if membership is None:
        ledger.account(row.tenant.pk).admit({MEMBERS: 1})
        membership = Membership.everywhere.create(tenant=row.tenant, user=user, role="" if row.project else row.role)
    if row.project:
        place = projects.number_for(row.tenant.pk, row.project)
        Grant.everywhere.get_or_create(tenant=row.tenant, role=row.role, project_id=place, member=membership)
    joining = Actor(door=Door.PANEL, tenant=row.tenant, user=user, address=address)
    inviter = row.invited_by.username if row.invited_by else "root"
    audit.record(joining, "invitation.accept", user.username, **_words(row), invited_by=inviter)
    access.forget(row.tenant)
    return membership


def _words(row: Invitation) -> dict[str, Any]:
    """For the audit log."""
    return {"role": row.role, **({"project": row.project} if row.project else {}), "number": row.pk}
