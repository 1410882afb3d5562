"""Changing tenants' rows and members. Keys are in credentials.py; what also concerns the hosts is in hosts/tenants.py, which calls this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from controlpanel.accounts.models import Certificate, Token, User
from controlpanel.audit import services as audit
from controlpanel.tenants import access, announce, projects, roles
from controlpanel.tenants import policy as policies
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.models import CustomRole, Membership, Tenant
from controlpanel.tenants.permissions import check_no_more, require
from controlpanel.tenants.policy import Policy
from controlpanel.tenants.queries import no_such_tenant
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import MEMBERS, OF_TENANT, check_limit
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.model.bandwidth import check_bandwidth
from engine.model.tenant import check_tenant_name

LIMITS = (*OF_TENANT, "bandwidth_in", "bandwidth_out")
LOG_BYTES_MIN = 1 << 20


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
        marked = Tenant.objects.filter(name=name, delete_at__isnull=False).exists()
        why = ", and is marked for deletion: tenant restore brings it back, tenant delete --now ends it" if marked else ""
        raise AlreadyExists(f"tenant {name} exists already{why}") from None
    if owner is not None:
        Membership.everywhere.create(tenant=tenant, user=owner, role=Role.OWNER.value)
    audit.record(actor, "tenant.create", name, tenant_number=tenant.pk, **limits)
    announce.tenant_changed(tenant, "create")
    return tenant


@transaction.atomic
def change_limits(actor: Actor, tenant: Tenant, **limits: int) -> Tenant:
    """Below what is in use is allowed: it blocks growth and ends nothing."""
    require(actor, "tenant.limits")
    before = {name: getattr(tenant, name, None) for name in limits}
    _set_limits(tenant, limits)
    tenant.save(update_fields=list(limits))
    audit.record(actor, "tenant.limits", tenant.name, tenant_number=tenant.pk, before=before, after=limits)
    announce.tenant_changed(tenant, "limits")
    return tenant


@transaction.atomic
def change_policy(actor: Actor, name: str, change: Callable[[Policy], Policy]) -> Tenant:
    """For what is made from now on; containers keep what they were made with."""
    require(actor, "tenant.policy")
    tenant = Tenant.objects.select_for_update().filter(name=name).first()
    if tenant is None:
        raise no_such_tenant(name)
    before, after = tenant.policy, change(tenant.policy)
    if others := policies.difference(before, after):
        tenant.policy_words = after.to_json()
        tenant.save(update_fields=["policy_words"])
        sides = ({item: pair[side] for item, pair in others.items()} for side in (0, 1))
        audit.record(actor, "tenant.policy", name, tenant_number=tenant.pk, **dict(zip(("before", "after"), sides, strict=True)))
        announce.tenant_changed(tenant, "policy")
    return tenant


def _set_limits(tenant: Tenant, limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        if name not in LIMITS:
            raise InvalidArgument(f"there is no limit called {name}")
        check_limit(name, value)
        if name == "log_bytes" and 0 < value < LOG_BYTES_MIN:
            raise InvalidArgument(f"{name} {value}: at least {LOG_BYTES_MIN} bytes of output are kept")
        setattr(tenant, name, value)
    check_bandwidth(tenant.bandwidth())


@transaction.atomic
def mark_tenant(actor: Actor, tenant: Tenant, *, grace: timedelta, ran: list[str]) -> Tenant:
    """Its doors close with the commit, and after ``grace`` it goes. Again: another time. ``ran``: its containers that run now."""
    require(actor, "tenant.delete")
    tenant.delete_at = timezone.now() + grace
    tenant.ran = sorted({*tenant.ran, *ran})
    tenant.save(update_fields=["delete_at", "ran"])
    audit.record(actor, "tenant.mark", tenant.name, tenant_number=tenant.pk, at=tenant.delete_at.isoformat(), running=len(ran))
    announce.tenant_changed(tenant, "mark")
    return tenant


@transaction.atomic
def restore_tenant(actor: Actor, tenant: Tenant) -> list[str]:
    """Its doors open again. Ids of the containers that ran. FailedPrecondition for one that is not marked."""
    require(actor, "tenant.restore")
    if tenant.delete_at is None:
        raise FailedPrecondition(f"tenant {tenant.name} is not marked for deletion: there is nothing to restore")
    ran, tenant.delete_at, tenant.ran = list(tenant.ran), None, []
    tenant.save(update_fields=["delete_at", "ran"])
    audit.record(actor, "tenant.restore", tenant.name, tenant_number=tenant.pk)
    announce.tenant_changed(tenant, "restore")
    return ran


@transaction.atomic
def delete_tenant(actor: Actor, tenant: Tenant) -> None:
    """The row and all it owns. The hosts have forgotten the tenant already; the audit log stays."""
    require(actor, "tenant.delete")
    number, name = tenant.pk, tenant.name
    announce.tenant_changed(tenant, "delete")
    tenant.delete()
    audit.record(actor, "tenant.delete", name, tenant_number=number)


@transaction.atomic
def add_member(actor: Actor, user: User, role: str) -> Membership:
    """In one of the five roles or one of the tenant's own; also changes the role of someone who is a member. The tenant keeps an owner."""
    require(actor, "member.add")
    assert actor.tenant is not None
    CustomRole.objects.for_actor(actor).select_for_update().filter(name=role).first()  # which nobody removes meanwhile
    _only_owners_touch_owners(actor, user, role)
    check_no_more(actor, roles.verbs_of_named(actor, role), f"{user.username} as {role}")
    if role != Role.OWNER:
        _keep_an_owner(actor.tenant, user)
    before = _role_of(actor.tenant, user)
    if before is None:
        ledger.account(actor.tenant.pk).admit({MEMBERS: 1})
    membership, _made = Membership.everywhere.update_or_create(tenant=actor.tenant, user=user, defaults={"role": str(role)})
    audit.record(actor, "member.add", user.username, before=before, after=str(role))
    access.forget(actor.tenant)
    return membership


@transaction.atomic
def remove_member(actor: Actor, user: User) -> None:
    """With what was granted to the user, and the user's tokens and certificates for the tenant."""
    require(actor, "member.remove")
    assert actor.tenant is not None
    _only_owners_touch_owners(actor, user, Role.VIEWER)
    _keep_an_owner(actor.tenant, user)
    before = _role_of(actor.tenant, user)
    leaving = Membership.everywhere.filter(tenant=actor.tenant, user=user).first()
    if leaving is None:
        raise NotFound(f"No such member: {user.username}")
    granted = list(leaving.grants.select_related("tenant", "project"))
    leaving.delete()
    for grant in granted:
        projects.left(actor.tenant_number, grant.project_id)
    keys = [row.prefix for kind in (Token, Certificate) for row in kind.objects.filter(tenant=actor.tenant, user=user)]
    for kind in (Token, Certificate):
        kind.objects.filter(tenant=actor.tenant, user=user).delete()
    audit.record(
        actor, "member.remove", user.username, before=before, keys=keys, grants=[f"{grant.role} at {grant.place}" for grant in granted]
    )
    access.forget(actor.tenant)


def _role_of(tenant: Tenant, user: User) -> str | None:
    role: str | None = Membership.everywhere.filter(tenant=tenant, user=user).values_list("role", flat=True).first()
    return role


def _only_owners_touch_owners(actor: Actor, user: User, role: str) -> None:
    current = Membership.everywhere.filter(tenant=actor.tenant, user=user).first()
    if actor.role is not Role.OWNER and Role.OWNER in {role, current.role if current else None}:
        raise PermissionDenied("only owners make, change or remove owners", rule="member.owner")


def _keep_an_owner(tenant: Tenant, leaving: User) -> None:
    owners = Membership.everywhere.filter(tenant=tenant, role=Role.OWNER.value)
    if owners.filter(user=leaving).exists() and not owners.exclude(user=leaving).exists():
        raise FailedPrecondition(f"{leaving.username} is the last owner of {tenant.name}: make another one first")


ledger.counted(MEMBERS, Membership, "COUNT(*)")
