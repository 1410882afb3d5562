"""Changing tenants' rows, members and tokens. What also concerns the hosts is in hosts/tenants.py, which calls this."""

from __future__ import annotations

from datetime import timedelta

from django.db import IntegrityError, transaction

from controlpanel.accounts.models import Token, User
from controlpanel.audit import services as audit
from controlpanel.tenants import access, announce
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.tenants.permissions import require
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.model.tenant import check_tenant_name

LIMITS = ("nano_cpus", "memory_bytes", "pids", "disk_bytes", "containers_max")


@transaction.atomic
def create_tenant(actor: Actor, name: str, *, owner: User | None = None, **limits: int) -> Tenant:
    """The row; ``limits`` by the names of LIMITS, 0 = unlimited."""
    require(actor, "tenant.create")
    check_tenant_name(name)
    tenant = Tenant(name=name)
    _set_limits(tenant, limits)
    try:
        with transaction.atomic():
            tenant.save(force_insert=True)
    except IntegrityError:
        raise AlreadyExists(f"tenant {name} exists already") from None
    if owner is not None:
        Membership.everywhere.create(tenant=tenant, user=owner, role=Role.OWNER.value)
    audit.record(actor, "tenant.create", name, tenant_number=tenant.pk, **limits)
    announce.tenant_changed(tenant, "create")
    return tenant


@transaction.atomic
def change_limits(actor: Actor, tenant: Tenant, **limits: int) -> Tenant:
    """Below what is in use is allowed: it blocks growth and ends nothing."""
    require(actor, "tenant.limits")
    _set_limits(tenant, limits)
    tenant.save(update_fields=list(limits))
    audit.record(actor, "tenant.limits", tenant.name, tenant_number=tenant.pk, **limits)
    announce.tenant_changed(tenant, "limits")
    return tenant


def _set_limits(tenant: Tenant, limits: dict[str, int]) -> None:
    for name, value in limits.items():
        if name not in LIMITS:
            raise InvalidArgument(f"there is no limit called {name}")
        if value < 0:
            raise InvalidArgument(f"{name} {value}: a limit is 0 (unlimited) or more")
        setattr(tenant, name, value)


@transaction.atomic
def delete_tenant(actor: Actor, tenant: Tenant) -> None:
    """The row and all it owns. The hosts have forgotten the tenant already; the audit log stays."""
    require(actor, "tenant.delete")
    number, name = tenant.pk, tenant.name
    announce.tenant_changed(tenant, "delete")
    tenant.delete()
    audit.record(actor, "tenant.delete", name, tenant_number=number)


@transaction.atomic
def add_member(actor: Actor, user: User, role: Role) -> Membership:
    """Also changes the role of someone who is a member. The tenant keeps an owner."""
    require(actor, "member.add")
    assert actor.tenant is not None
    _only_owners_touch_owners(actor, user, role)
    if role is not Role.OWNER:
        _keep_an_owner(actor.tenant, user)
    membership, _made = Membership.everywhere.update_or_create(tenant=actor.tenant, user=user, defaults={"role": role.value})
    audit.record(actor, "member.add", user.username, role=role.value)
    access.forget()
    return membership


@transaction.atomic
def remove_member(actor: Actor, user: User) -> None:
    """With the user's tokens for the tenant."""
    require(actor, "member.remove")
    assert actor.tenant is not None
    _only_owners_touch_owners(actor, user, Role.VIEWER)
    _keep_an_owner(actor.tenant, user)
    removed, _by_model = Membership.everywhere.filter(tenant=actor.tenant, user=user).delete()
    if not removed:
        raise NotFound(f"No such member: {user.username}")
    Token.objects.filter(tenant=actor.tenant, user=user).delete()
    audit.record(actor, "member.remove", user.username)
    access.forget()


def _only_owners_touch_owners(actor: Actor, user: User, role: Role) -> None:
    current = Membership.everywhere.filter(tenant=actor.tenant, user=user).first()
    if actor.role is not Role.OWNER and Role.OWNER in {role, current.role if current else None}:
        raise PermissionDenied("only owners make, change or remove owners", rule="member.owner")


def _keep_an_owner(tenant: Tenant, leaving: User) -> None:
    owners = Membership.everywhere.filter(tenant=tenant, role=Role.OWNER.value)
    if owners.filter(user=leaving).exists() and not owners.exclude(user=leaving).exists():
        raise FailedPrecondition(f"{leaving.username} is the last owner of {tenant.name}: make another one first")


@transaction.atomic
def create_token(actor: Actor, *, role: Role, name: str = "", lifetime: timedelta | None = None) -> tuple[Token, str]:
    """The token and its secret, which is known this once only. Nobody gives more than they have."""
    require(actor, "token.create")
    assert actor.tenant is not None and actor.role is not None
    order = list(Role)
    if order.index(role) < order.index(actor.role):
        raise PermissionDenied(f"role {actor.role.value} may not make a token of role {role.value}", rule="token.role")
    token, secret = Token.make(tenant_id=actor.tenant.pk, role=role.value, name=name[:100], user=actor.user, lifetime=lifetime)
    token.save(force_insert=True)
    audit.record(actor, "token.create", token.prefix, role=role.value, name=name)
    return token, secret


@transaction.atomic
def revoke_token(actor: Actor, token_id: int) -> None:
    require(actor, "token.revoke")
    token = Token.objects.filter(tenant=actor.tenant, pk=token_id).first()
    if token is None:
        raise NotFound(f"No such token: {token_id}")
    token.delete()
    audit.record(actor, "token.revoke", token.prefix)
    access.forget()
