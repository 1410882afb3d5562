"""Tokens and certificates: keys to one tenant, made, renewed and revoked. Nobody gives more, or for longer, than they have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from controlpanel.accounts.models import Certificate, Token, User
from controlpanel.audit import services as audit
from controlpanel.tenants import access, projects, roles
from controlpanel.tenants.actor import Actor, Door, Role
from controlpanel.tenants.authority import Signed, sign
from controlpanel.tenants.models import Membership
from controlpanel.tenants.permissions import check_no_more, require
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import TOKENS
from controlpanel.tenants.verbs import parse_verbs
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

CERTIFICATE_LIFETIME: Final = timedelta(days=7)
CERTIFICATE_LIFETIME_MAX: Final = timedelta(days=90)


@transaction.atomic
def create_token(
    actor: Actor,
    *,
    role: str | None = None,
    name: str = "",
    lifetime: timedelta | None = None,
    verbs: Iterable[str] = (),
    project: str = "",
    user: User | None = None,
) -> tuple[Token, str]:
    """The token and its secret, which is known this once only. ``role``: one of the five, or of the tenant's own; ``project``: it opens
    this one alone; ``user``: another member's, for root at the command line."""
    require(actor, "token.create")
    words = _words(actor, role=role, name=name, lifetime=lifetime, verbs=verbs, project=project, user=user)
    ledger.account(actor.tenant_number).admit({TOKENS: 1})
    token, secret = Token.make(**words)
    token.save(force_insert=True)
    _audit(actor, "token.create", token)
    return token, secret


@transaction.atomic
def revoke_token(actor: Actor, token_id: int) -> None:
    require(actor, "token.revoke")
    _revoke(actor, Token, token_id)


@transaction.atomic
def create_certificate(
    actor: Actor,
    *,
    role: str | None = None,
    name: str = "",
    lifetime: timedelta | None = None,
    verbs: Iterable[str] = (),
    project: str = "",
    user: User | None = None,
    host: str = "",
) -> tuple[Certificate, Signed]:
    """The row, and what the client needs, which is known this once only. ``host``: as of authority.sign."""
    require(actor, "certificate.create")
    lifetime = lifetime or CERTIFICATE_LIFETIME
    if lifetime > CERTIFICATE_LIFETIME_MAX:
        raise InvalidArgument(f"a certificate lives {CERTIFICATE_LIFETIME_MAX.days} days at most: renew it before it ends")
    words = _words(actor, role=role, name=name, lifetime=lifetime, verbs=verbs, project=project, user=user)
    made = _certify(words, host)
    _audit(actor, "certificate.create", made[0])
    return made


@transaction.atomic
def renew_certificate(actor: Actor, *, host: str = "") -> tuple[Certificate, Signed]:
    """Another like the one that the actor came with, for as long as that one was made for; that one goes on until its end.

    It takes no verb: whoever has a certificate may keep it, until somebody revokes it.
    """
    if actor.door is not Door.TLS:
        raise FailedPrecondition(
            "a certificate is renewed by a request that comes with it: send this to the TLS port, with the client's certificate"
        )
    old = Certificate.objects.select_related("tenant", "user").filter(tenant=actor.tenant, digest=actor.credential[1]).first()
    if old is None or old.expires_at is None:
        raise NotFound("this certificate was revoked meanwhile")
    ends_at = timezone.now() + (old.expires_at - old.created_at)
    kept = {name: getattr(old, name) for name in ("tenant", "role", "project", "verbs", "name", "user")}
    made = _certify({**kept, "expires_at": ends_at}, host)
    _audit(actor, "certificate.renew", made[0], before=old.prefix)
    return made


@transaction.atomic
def revoke_certificate(actor: Actor, certificate_id: int) -> None:
    require(actor, "certificate.revoke")
    _revoke(actor, Certificate, certificate_id)


def _revoke(actor: Actor, kind: type[Token] | type[Certificate], number: int) -> None:
    noun = kind.__name__.lower()
    row = kind.objects.filter(tenant=actor.tenant, pk=number).first()
    if row is None:
        raise NotFound(f"No such {noun}: {number}")
    row.delete()
    audit.record(actor, f"{noun}.revoke", row.prefix, role=row.role, name=row.name)
    access.forget(actor.tenant)


def _words(
    actor: Actor, *, role: str | None, name: str, lifetime: timedelta | None, verbs: Iterable[str], project: str, user: User | None
) -> dict[str, Any]:
    """The fields of a Credential, within what the actor and the user have."""
    assert actor.tenant is not None
    if project:
        projects.check_name(project)
    member = _role_in(actor, user) if user is not None else actor.role
    role = role or _default(actor, member, user)
    allowed = roles.verbs_of_named(actor, role)
    if role == Role.OWNER and actor.role is not Role.OWNER:
        raise PermissionDenied(f"role {actor.role or 'none'} may not make a key of role {role}", rule="credential.role")
    if user is not None and role in set(Role) and member is not None and _order(Role(role)) < _order(member):
        raise InvalidArgument(f"{user.username} is {member.value} of {actor.tenant.name}: a key of role {role} would give no more")
    wanted = parse_verbs(verbs, allowed, of=role)
    if actor.verbs is not None and not (wanted and actor.verbs.issuperset(wanted)):
        raise PermissionDenied(f"{actor.name} was made for some verbs alone, and makes keys for these or fewer", rule="credential.verbs")
    check_no_more(actor, wanted or allowed, f"a key of role {role}")
    ends_at = timezone.now() + lifetime if lifetime else None
    if actor.ends_at is not None and (ends_at is None or ends_at > actor.ends_at):
        raise PermissionDenied(
            f"{actor.name} ends at {_shown(actor.ends_at)}, and makes no key that lasts longer", rule="credential.expires"
        )
    kept = {"tenant": actor.tenant, "role": str(role), "project": project, "verbs": wanted, "name": name[:100]}
    return {**kept, "user": user or actor.user, "expires_at": ends_at}


def _default(actor: Actor, member: Role | None, user: User | None) -> str:
    if member is None:
        raise InvalidArgument("say which role it is for: whose it would be has none of the five in the whole tenant")
    return member if user is not None else max(Role.DEVELOPER, member, key=_order)


def _order(role: Role) -> int:
    """From most to least."""
    return list(Role).index(role)


def _role_in(actor: Actor, user: User) -> Role | None:
    """None: one of the tenant's own, or only what was granted."""
    assert actor.tenant is not None
    found = Membership.everywhere.filter(tenant=actor.tenant, user=user, user__is_active=True).first()
    if found is None:
        raise InvalidArgument(
            f"{user.username} is no member of {actor.tenant.name}: ./manage.py member add {actor.tenant.name} {user.username} makes one"
        )
    return Role(found.role) if found.role in set(Role) else None


def _certify(words: dict[str, Any], host: str) -> tuple[Certificate, Signed]:
    who = words["user"].username if words["user"] else words["name"] or "robot"
    signed = sign(name=who, tenant=words["tenant"].name, ends_at=words["expires_at"], host=host)
    row = Certificate(**words, digest=signed.digest)
    row.save(force_insert=True)
    return row, signed


def _audit(actor: Actor, verb: str, row: Token | Certificate, **detail: Any) -> None:
    ends_at = _shown(row.expires_at) if row.expires_at else ""
    user = row.user.username if row.user else ""
    audit.record(
        actor, verb, row.prefix, role=row.role, project=row.project, name=row.name, verbs=row.verbs, user=user, ends_at=ends_at, **detail
    )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


ledger.counted(TOKENS, Token, "COUNT(*)", where="(expires_at IS NULL OR expires_at > CURRENT_TIMESTAMP)")
