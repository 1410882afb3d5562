"""From rows to what somebody holds in a tenant: the member's role, and every grant of the member's own and of his groups.

Read when an actor is made (access), so at most once a second for each credential, and again after each change.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.db.models import Q

from controlpanel.tenants.actor import Held, Role
from controlpanel.tenants.models import CustomRole, Grant, Membership
from controlpanel.tenants.verbs import VERBS, verbs_of_role


class Holding(NamedTuple):
    """As an Actor has it: one of the five in the whole tenant, and the rest."""

    role: Role | None
    held: tuple[Held, ...]

    def within(self, verbs: frozenset[str]) -> tuple[Held, ...]:
        """All of it, as far as a key made for these verbs gives it."""
        own = (Held(role=self.role.value, verbs=verbs_of_role(self.role)),) if self.role is not None else ()
        return tuple(Held(role=each.role, verbs=each.verbs & verbs, project=each.project, group=each.group) for each in own + self.held)


def of_member(membership: Membership) -> Holding:
    mine = Q(member=membership) | Q(group__members=membership)
    grants = Grant.everywhere.filter(mine).select_related("group", "project").order_by("pk")
    found = [(grant.role, grant.project.name if grant.project else "", grant.group.name if grant.group else "") for grant in grants]
    role = Role(membership.role) if membership.role in set(Role) else None
    if role is None and membership.role:
        found.insert(0, (membership.role, "", ""))
    verbs = verbs_of(membership.tenant_id, {name for name, _project, _group in found})
    return Holding(role, tuple(Held(role=name, verbs=verbs[name], project=project, group=group) for name, project, group in found))


def verbs_of(tenant_id: int, names: Collection[str]) -> dict[str, frozenset[str]]:
    """By role. One that is not there any more gives nothing, and so does a verb."""
    own = set(names) - set(Role)
    rows = CustomRole.everywhere.filter(tenant_id=tenant_id, name__in=own) if own else ()
    custom = {row.name: frozenset(row.verbs) & VERBS.keys() for row in rows}
    return {name: verbs_of_role(Role(name)) if name in set(Role) else custom.get(name, frozenset()) for name in names}
