"""A tenant's own roles: a name and a set of verbs, beside the five that every tenant has. Nobody makes one that may more than he may.

A change reaches whoever holds the role within a second, as every change of rights does (access.forget): what it no longer allows is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from django.db import transaction

from controlpanel.accounts.models import Certificate, Token
from controlpanel.audit import services as audit
from controlpanel.tenants import access
from controlpanel.tenants.actor import Actor, Role
from controlpanel.tenants.held import verbs_of
from controlpanel.tenants.models import CustomRole, Grant, Membership
from controlpanel.tenants.permissions import check_no_more, require
from controlpanel.tenants.verbs import parse_verbs, verbs_of_role
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
ROLES_MAX: Final = 100  # of a tenant
HOLDERS_SHOWN: Final = 5


class Shown(NamedTuple):
    name: str
    verbs: list[str]
    built_in: bool
    holders: list[str]


def check_name(name: str, noun: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"invalid {noun} name {name!r}: use 1 to 63 lower-case letters, digits, dots, dashes and underscores")


def roles(actor: Actor) -> list[Shown]:
    """The five, from most to least, then the tenant's own by name."""
    require(actor, "role.view")
    return [
        *(Shown(role.value, sorted(verbs_of_role(role)), True, []) for role in Role),
        *(_shown(row) for row in CustomRole.objects.for_actor(actor).order_by("name")),
    ]


def verbs_of_named(actor: Actor, name: str) -> frozenset[str]:
    """Of one of the five, or one of the tenant's own. NotFound for any other word."""
    if name not in set(Role) and not CustomRole.objects.for_actor(actor).filter(name=name).exists():
        raise NotFound(f"No such role: {name}")
    return verbs_of(actor.tenant_number, [name])[name]


@transaction.atomic
def create_role(actor: Actor, name: str, verbs: Iterable[str]) -> Shown:
    """``verbs`` as of verbs.parse_verbs: container.* is all of a kind."""
    require(actor, "role.create")
    check_name(name, "role")
    wanted = _wanted(actor, name, verbs)
    mine = CustomRole.objects.for_actor(actor)
    if name in set(Role) or mine.filter(name=name).exists():
        raise AlreadyExists(f"role {name} exists already")
    if mine.count() >= ROLES_MAX:
        raise FailedPrecondition(f"a tenant has {ROLES_MAX} roles of its own at most: remove one first")
    row = CustomRole(tenant=actor.tenant, name=name, verbs=wanted)
    row.save(force_insert=True)
    audit.record(actor, "role.create", name, before=None, after=wanted)
    access.forget(actor.tenant)
    return _shown(row)


@transaction.atomic
def change_role(actor: Actor, name: str, verbs: Iterable[str]) -> Shown:
    """All who hold it may these verbs from now on."""
    require(actor, "role.change")
    row = _own(actor, name)
    before, row.verbs = row.verbs, _wanted(actor, name, verbs)
    row.save(update_fields=["verbs"])
    audit.record(actor, "role.change", name, before=before, after=row.verbs)
    access.forget(actor.tenant)
    return _shown(row)


@transaction.atomic
def remove_role(actor: Actor, name: str) -> None:
    """FailedPrecondition, naming them, while somebody holds it."""
    require(actor, "role.remove")
    row = _own(actor, name)
    if holders := _holders(row):
        shown = ", ".join(holders[:HOLDERS_SHOWN]) + (f" and {len(holders) - HOLDERS_SHOWN} more" if len(holders) > HOLDERS_SHOWN else "")
        raise FailedPrecondition(f"role {name} is held by {shown}: give them another one first", holders=holders)
    row.delete()
    audit.record(actor, "role.remove", name, before=row.verbs, after=None)


def _own(actor: Actor, name: str) -> CustomRole:
    """Locked, so that nobody is given it meanwhile."""
    if name in set(Role):
        raise FailedPrecondition(f"role {name} is the same in every tenant: make one of your own beside it")
    found: CustomRole | None = CustomRole.objects.for_actor(actor).select_for_update().filter(name=name).first()
    if found is None:
        raise NotFound(f"No such role: {name}")
    return found


def _wanted(actor: Actor, name: str, verbs: Iterable[str]) -> list[str]:
    wanted = parse_verbs(verbs)
    if not wanted:
        raise InvalidArgument(f"role {name} needs a verb at least: container.view, container.*, …")
    check_no_more(actor, wanted, f"role {name}")
    return wanted


def _holders(row: CustomRole) -> list[str]:
    mine = {"tenant": row.tenant_id, "role": row.name}
    members: Sequence[str] = Membership.everywhere.filter(**mine).order_by("user__username").values_list("user__username", flat=True)
    grants = Grant.everywhere.filter(**mine).select_related("tenant", "member__user", "group", "project")
    keys = [f"{kind.__name__.lower()} {key.prefix}…" for kind in (Token, Certificate) for key in kind.objects.filter(**mine)]
    return [*members, *sorted(f"{grant.whom} at {grant.place}" for grant in grants), *keys]


def _shown(row: CustomRole) -> Shown:
    return Shown(row.name, list(row.verbs), False, _holders(row))
