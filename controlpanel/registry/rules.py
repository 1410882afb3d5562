"""A tenant's rules for its repositories: tags that nobody moves or removes (immutable), and tags that stay when others go (keep).

Patterns are of names behind the tenant's: ``team-a/**`` is acme/team-a/… of tenant acme.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.db import transaction

from controlpanel.audit import services as audit
from controlpanel.registry.models import Repository, Rule
from controlpanel.registry.names import check_pattern, matches
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

RULES_MAX: Final = 100  # of a tenant
MOST: Final = 10_000  # tags or days
_FIGURES: Final = ("last", "pushed_days", "pulled_days", "untagged_days")


def rules(actor: Actor) -> list[Rule]:
    """Of the actor's tenant, in the order in which they were made."""
    require(actor, "registry.pull")
    return list(Rule.objects.for_actor(actor).order_by("pk"))


@transaction.atomic
def create(actor: Actor, kind: str, repositories: str, tags: str = "**", **figures: int) -> Rule:
    """``figures``: last, pushed_days, pulled_days, untagged_days, of a rule that keeps."""
    require(actor, "registry.maintain")
    check_pattern(repositories, "repositories")
    check_pattern(tags, "tags")
    if kind == Rule.IMMUTABLE and any(figures.values()):
        raise InvalidArgument("a rule that tags are immutable has no figures")
    for name, value in figures.items():
        if name not in _FIGURES or not 0 <= value <= MOST:
            raise InvalidArgument(f"{name} {value}: from 0 to {MOST}")
    if Rule.objects.for_actor(actor).count() >= RULES_MAX:
        raise FailedPrecondition(f"a tenant has {RULES_MAX} rules for its repositories at most: remove one first")
    row: Rule = Rule.everywhere.create(tenant=actor.tenant, kind=kind, repositories=repositories, tags=tags, **figures)
    audit.record(actor, "registry.rule", str(row), before=None, after=words(row))
    return row


@transaction.atomic
def remove(actor: Actor, number: int) -> None:
    require(actor, "registry.maintain")
    row = Rule.objects.for_actor(actor).filter(pk=number).first()
    if row is None:
        raise NotFound(f"No such rule: {number}")
    before = words(row)
    row.delete()
    audit.record(actor, "registry.rule", str(row), before=before, after=None)


def words(row: Rule) -> dict[str, str | int]:
    said: dict[str, str | int] = {"kind": row.kind, "repositories": row.repositories, "tags": row.tags}
    return said | {name: value for name in _FIGURES if (value := getattr(row, name))}


def check_mutable(repository: Repository, tags: Iterable[str]) -> None:
    """PermissionDenied when one of these tags, which are there, is not to be moved or removed."""
    mine = immutable(repository)
    for tag in tags if mine else ():
        for rule in mine:
            if matches(rule.tags, tag):
                raise PermissionDenied(
                    f"tag {tag} of {repository.name} is immutable: rule {rule.repositories}:{rule.tags} of the tenant's admins says so",
                    rule="registry.immutable",
                )


def immutable(repository: Repository) -> list[Rule]:
    """That say so of some of its tags."""
    return fitting(Rule.everywhere.filter(tenant_id=repository.tenant_id, kind=Rule.IMMUTABLE).order_by("pk"), repository.name)


def fitting(found: Iterable[Rule], name: str) -> list[Rule]:
    """Those that are for the repository of that name."""
    short = name.partition("/")[2]
    return [rule for rule in found if matches(rule.repositories, short)]
