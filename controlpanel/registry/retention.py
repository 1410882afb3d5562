"""What goes by a tenant's rules that keep, and what stays, with the reason for each. The plan and the deed are the same function's.

A tag of a repository that such a rule is for stays when any of them keeps it: among the tags that the rule is for it is one of the last
that were pushed, or was pushed or pulled lately; or when it is pinned or immutable, or a container of this platform has its image. Where
no rule keeps it, it goes; a manifest goes with its last tag. What has no tag goes when a rule gives a time for that. Repositories that no
rule is for are left alone. What goes lies in the trash for a while (trash.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db import transaction
from django.utils import timezone

from controlpanel.audit import services as audit
from controlpanel.containers.models import Container
from controlpanel.registry import history, manifests, queries, rules, trash
from controlpanel.registry.manifests import DOCKER_LIST, INDEX
from controlpanel.registry.models import Manifest, Need, Repository, Rule, Sweep, Tag
from controlpanel.registry.names import matches
from controlpanel.tenants.actor import Actor, system
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require

EVERY: Final = timedelta(days=1)
TOLD: Final = 1_000  # of what went, in one sweep's row
SWEEPS_KEPT: Final = 100  # of a tenant


class Verdict(NamedTuple):
    """Of a tag, or of a manifest without one ("")."""

    repository: str
    digest: str
    tag: str
    stays: bool
    why: str


def plan(actor: Actor) -> list[Verdict]:
    """What would happen now."""
    require(actor, "registry.pull")
    return [verdict for repository in _ruled(actor) for verdict in _judge(repository, timezone.now())]


def sweep(actor: Actor) -> Sweep:
    """It happens. A repository is one transaction."""
    require(actor, "registry.maintain")
    assert actor.tenant is not None
    kept, gone = 0, []
    for repository in _ruled(actor):
        with transaction.atomic():
            verdicts = list(_judge(repository, timezone.now()))
            needed = set().union(*_members(repository).values())
            for verdict in verdicts:
                if not verdict.stays:
                    _remove(actor, repository, verdict, needed)
        kept += sum(verdict.stays for verdict in verdicts)
        gone += [verdict for verdict in verdicts if not verdict.stays]
    told = [{"repository": each.repository, "digest": each.digest, "tag": each.tag, "why": each.why} for each in gone[:TOLD]]
    with transaction.atomic():
        audit.record(actor, "registry.retention", actor.tenant.name, kept=kept, removed=len(gone))
        row: Sweep = Sweep.everywhere.create(tenant=actor.tenant, by=actor.label[:200], kept=kept, removed=len(gone), gone=told)
        old = Sweep.objects.for_actor(actor).order_by("-pk").values_list("pk", flat=True)[SWEEPS_KEPT:]
        Sweep.everywhere.filter(pk__in=list(old)).delete()
    return row


def sweep_due() -> None:
    """For the panel worker's schedule: every tenant that has such rules, once a day."""
    for tenant in Tenant.objects.filter(delete_at=None, registry_rules__kind=Rule.KEEP).distinct():
        last = Sweep.everywhere.filter(tenant=tenant).order_by("-pk").values_list("at", flat=True).first()
        if last is None or last < timezone.now() - EVERY:
            sweep(system(tenant))


def sweeps(actor: Actor) -> list[Sweep]:
    """Newest first."""
    return list(Sweep.objects.for_actor(actor).order_by("-pk"))


def _ruled(actor: Actor) -> Iterator[Repository]:
    for repository in Repository.objects.for_actor(actor).order_by("name"):
        if rules.of(repository, Rule.KEEP):
            yield repository


def _judge(repository: Repository, now: datetime) -> Iterator[Verdict]:
    keeping, immutable = rules.of(repository, Rule.KEEP), rules.of(repository, Rule.IMMUTABLE)
    tags = list(Tag.objects.filter(repository=repository).select_related("manifest").defer("manifest__body").order_by("-pushed_at", "-pk"))
    used = _used(repository)
    reasons: dict[int, str] = {}
    for rule in keeping:
        mine = [tag for tag in tags if matches(rule.tags, tag.name)]
        for place, tag in enumerate(mine, 1):
            if reason := _kept_by(rule, tag, place, now):
                reasons.setdefault(tag.pk, reason)
    for tag in tags:
        why = reasons.get(tag.pk, "")
        if tag.pinned:
            why = "pinned"
        elif any(matches(rule.tags, tag.name) for rule in immutable):
            why = "immutable"
        elif tag.manifest_id in used:
            why = "a container has this image"
        yield Verdict(repository.name, tag.manifest.digest, tag.name, bool(why), why or "no rule keeps it")
    if days := max((rule.untagged_days for rule in keeping), default=0):
        yield from _untagged(repository, now - timedelta(days=days), days, used)


def _kept_by(rule: Rule, tag: Tag, place: int, now: datetime) -> str:
    words = f"rule {rule.repositories}:{rule.tags}"
    if place <= rule.last:
        return f"{words}: the last {rule.last}"
    if rule.pushed_days and tag.pushed_at >= now - timedelta(days=rule.pushed_days):
        return f"{words}: pushed in the last {rule.pushed_days} days"
    if rule.pulled_days and tag.pulled_at is not None and tag.pulled_at >= now - timedelta(days=rule.pulled_days):
        return f"{words}: pulled in the last {rule.pulled_days} days"
    return ""


def _untagged(repository: Repository, before: datetime, days: int, used: set[int]) -> Iterator[Verdict]:
    """Neither a platform of an index that is there, nor about a manifest that is: signatures and the like go when that has gone."""
    needed = set().union(*_members(repository).values())
    there = set(queries.present(repository.pk).values_list("digest", flat=True))
    for row in queries.present(repository.pk).filter(tags=None, pushed_at__lt=before).defer("body").order_by("pk"):
        if row.digest in needed or row.subject in there:
            continue
        stays = row.pk in used
        yield Verdict(repository.name, row.digest, "", stays, "a container has this image" if stays else f"without a tag for {days} days")


def _used(repository: Repository) -> set[int]:
    """Manifests whose image a container of this platform has: the config's digest is the image's id, for docker as for us. With them the
    indexes that name them."""
    configs = Container.everywhere.values("image_id")
    found = set(Need.objects.filter(link__repository=repository, link__blob__digest__in=configs).values_list("manifest_id", flat=True))
    if not found:
        return found
    digests = set(Manifest.everywhere.filter(pk__in=found).values_list("digest", flat=True))
    return found | {index for index, members in _members(repository).items() if members & digests}


def _members(repository: Repository) -> dict[int, set[str]]:
    """By index: the digests of the manifests that it is made of."""
    indexes = queries.present(repository.pk).filter(media_type__in=(INDEX, DOCKER_LIST))
    return {row.pk: {each["digest"] for each in manifests.members(bytes(row.body))} for row in indexes}


def _remove(actor: Actor, repository: Repository, verdict: Verdict, needed: set[str]) -> None:
    """``needed``: manifests that an index is made of; of these the tag alone goes."""
    row = queries.present(repository.pk).filter(digest=verdict.digest).defer("body").select_related("repository").first()
    if row is None:
        return
    if verdict.tag and (verdict.digest in needed or row.tags.exclude(name=verdict.tag).exists()):
        row.tags.filter(name=verdict.tag).delete()
        history.note(actor, repository.pk, [verdict.tag], "")
        audit.record(actor, "registry.delete", f"{repository.name}:{verdict.tag}", before=verdict.digest, why=verdict.why)
    else:
        trash.discard(actor, row, why=verdict.why)
