"""Groups of a tenant's members, and grants: a role for a member or a group, in the whole tenant or in one project.

Whoever is granted something, or put into a group, belongs to the tenant from then on. A member without a role of his own sees what was
granted: of a project its containers, volumes, networks, builds and events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.db import transaction

from controlpanel.accounts.models import User
from controlpanel.accounts.services import user_named
from controlpanel.audit import services as audit
from controlpanel.tenants import access, projects, roles
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.models import CustomRole, Grant, Group, Membership
from controlpanel.tenants.permissions import check_no_more, require
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import MEMBERS
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

GROUPS_MAX: Final = 1000  # of a tenant
GRANTS_MAX: Final = 10_000


def groups(actor: Actor) -> list[Group]:
    """Of the actor's tenant, by name, with their members and grants."""
    require(actor, "group.view")
    found = Group.objects.for_actor(actor).order_by("name")
    return list(found.prefetch_related("members__user", "grants__project", "grants__tenant"))


def group(actor: Actor, name: str) -> Group:
    found: Group | None = Group.objects.for_actor(actor).filter(name=name).first()
    if found is None:
        raise NotFound(f"No such group: {name}")
    return found


@transaction.atomic
def create_group(actor: Actor, name: str) -> Group:
    require(actor, "group.create")
    roles.check_name(name, "group")
    mine = Group.objects.for_actor(actor)
    if mine.filter(name=name).exists():
        raise AlreadyExists(f"group {name} exists already")
    if mine.count() >= GROUPS_MAX:
        raise FailedPrecondition(f"a tenant has {GROUPS_MAX} groups at most: remove one first")
    row: Group = Group.everywhere.create(tenant=actor.tenant, name=name)
    audit.record(actor, "group.create", name, before=None, after=[])
    return row


@transaction.atomic
def remove_group(actor: Actor, name: str) -> None:
    """With what was granted to it; its members stay members of the tenant."""
    require(actor, "group.remove")
    row = group(actor, name)
    grants, before = list(row.grants.select_related("project", "tenant")), _names(row)
    row.delete()
    for grant in grants:
        projects.left(actor.tenant_number, grant.project_id)
    audit.record(actor, "group.remove", name, before=before, after=None, grants=[f"{grant.role} at {grant.place}" for grant in grants])
    access.forget(actor.tenant)


@transaction.atomic
def add_to_group(actor: Actor, name: str, user: User) -> Group:
    """Who is no member of the tenant becomes one. One more gets what the group was granted, so nobody adds to a group that may more."""
    require(actor, "group.change")
    row = group(actor, name)
    for role in sorted({grant.role for grant in row.grants.all()}):
        check_no_more(actor, roles.verbs_of_named(actor, role), f"{user.username} in group {name}")
    before = _names(row)
    row.members.add(_member(actor, user))
    audit.record(actor, "group.change", name, before=before, after=_names(row))
    access.forget(actor.tenant)
    return row


@transaction.atomic
def take_from_group(actor: Actor, name: str, user: User) -> Group:
    require(actor, "group.change")
    row = group(actor, name)
    before = _names(row)
    if user.username not in before:
        raise NotFound(f"{user.username} is not in group {name}")
    row.members.remove(row.members.get(user=user))
    audit.record(actor, "group.change", name, before=before, after=_names(row))
    access.forget(actor.tenant)
    return row


@transaction.atomic
def grant(actor: Actor, role: str, *, user: str = "", group_name: str = "", project: str = "") -> Grant:
    """To one of both; in the project, which is there from then on, or in the whole tenant. The same again is fine.

    A role of the member's own in the whole tenant is the membership's: services.add_member.
    """
    require(actor, "member.grant")
    assert actor.tenant is not None
    CustomRole.objects.for_actor(actor).select_for_update().filter(name=role).first()  # which nobody removes meanwhile
    check_no_more(actor, roles.verbs_of_named(actor, role), f"{user or f'group {group_name}'} as {role}")
    if role == Role.OWNER:
        raise InvalidArgument("owner is no role to be granted beside another: make the member an owner of the tenant")
    if Grant.objects.for_actor(actor).count() >= GRANTS_MAX:
        raise FailedPrecondition(f"a tenant has {GRANTS_MAX} grants at most: take some back first")
    whom = _whom(actor, user, group_name)
    place = projects.number_for(actor.tenant_number, project) if project else None
    row, made = Grant.everywhere.get_or_create(tenant=actor.tenant, role=role, project_id=place, **whom)
    if made:
        audit.record(actor, "member.grant", row.whom, before=None, after=role, at=row.place)
        access.forget(actor.tenant)
    return row


@transaction.atomic
def revoke(actor: Actor, number: int) -> None:
    require(actor, "member.grant")
    found = Grant.objects.for_actor(actor).filter(pk=number).select_related("tenant", "member__user", "group", "project")
    row: Grant | None = found.first()
    if row is None:
        raise NotFound(f"No such grant: {number}")
    row.delete()
    projects.left(actor.tenant_number, row.project_id)
    audit.record(actor, "member.grant", row.whom, before=row.role, after=None, at=row.place)
    access.forget(actor.tenant)


def grants(actor: Actor) -> list[Grant]:
    """Of the actor's tenant: to members by name, then to groups."""
    require(actor, "member.view")
    rows = Grant.objects.for_actor(actor).select_related("tenant", "member__user", "group", "project")
    return sorted(rows, key=lambda row: (row.group is not None, row.whom, row.place, row.role))


def grant_named(actor: Actor, role: str, *, user: str = "", group_name: str = "", project: str = "") -> int:
    """The number of the one that is meant. NotFound."""
    whom = user or f"group {group_name}"
    for row in grants(actor):
        if (row.role, row.whom, row.project.name if row.project else "") == (role, whom, project):
            number: int = row.pk
            return number
    raise NotFound(f"{whom} was not granted {role} at {f'project {project}' if project else 'the tenant'}")


def _whom(actor: Actor, user: str, group_name: str) -> dict[str, Membership | Group]:
    if bool(user) == bool(group_name):
        raise InvalidArgument("a role is granted to a user or to a group: name one of both")
    return {"group": group(actor, group_name)} if group_name else {"member": _member(actor, user_named(user))}


def _member(actor: Actor, user: User) -> Membership:
    assert actor.tenant is not None
    found: Membership | None = Membership.everywhere.filter(tenant=actor.tenant, user=user).first()
    if found is None:
        require(actor, "member.add")
        ledger.account(actor.tenant_number).admit({MEMBERS: 1})
        found = Membership.everywhere.create(tenant=actor.tenant, user=user, role="")
        audit.record(actor, "member.add", user.username, before=None, after="")
    return found


def _names(row: Group) -> list[str]:
    names: Sequence[str] = row.members.order_by("user__username").values_list("user__username", flat=True)
    return list(names)
