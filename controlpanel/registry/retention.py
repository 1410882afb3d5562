"""What goes by a tenant's rules that keep, and what stays, with the reason for each. The plan and the deed are the same function's.

A tag of a repository that such a rule is for stays when any of them keeps it: among the tags that the rule is for it is one of the last
that were pushed, or was pushed or pulled lately; or when it is pinned or immutable, or a container of the tenant has its image. Where
no rule keeps it, it goes; a manifest goes with its last tag. What has no tag goes when a rule gives a time for that. Repositories that no
rule is for are left alone. What goes lies in the trash for a while (trash.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

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


class Why(NamedTuple):
    """A reason: a sentence with places, and what stands there."""

    sentence: str
    words: dict[str, Any] = {}

    def __str__(self) -> str:
        """As audit and REST have it."""
        return self.sentence % self.words

    def translated(self) -> str:
        return gettext(self.sentence) % self.words


_NO_RULE: Final = Why(gettext_noop("no rule keeps it"))
_PINNED: Final = Why(gettext_noop("pinned"))
_IMMUTABLE: Final = Why(gettext_noop("immutable"))
_USED: Final = Why(gettext_noop("a container of the tenant has this image"))
_LAST: Final = gettext_noop("rule %(rule)s: the last %(n)d")
_PUSHED: Final = gettext_noop("rule %(rule)s: pushed in the last %(n)d days")
_PULLED: Final = gettext_noop("rule %(rule)s: pulled in the last %(n)d days")
_UNTAGGED: Final = gettext_noop("without a tag for %(n)d days")


class Verdict(NamedTuple):
    """Of a tag, or of a manifest without one ("")."""

    repository: str
    digest: str
    tag: str
    stays: bool
    why: Why


def plan(actor: Actor) -> list[Verdict]:
    """What would happen now."""
    require(actor, "registry.pull")
    return [verdict for ruled in _ruled(actor) for verdict in ruled.verdicts()]


def sweep(actor: Actor) -> Sweep:
    """It happens. A repository is one transaction."""
    require(actor, "registry.maintain")
    assert actor.tenant is not None
    kept, gone = 0, []
    for ruled in _ruled(actor):
        with transaction.atomic():
            verdicts = list(ruled.verdicts())
            for verdict in verdicts:
                if not verdict.stays:
                    _remove(actor, ruled, verdict)
        kept += sum(verdict.stays for verdict in verdicts)
        gone += [verdict for verdict in verdicts if not verdict.stays]
    told = [{"repository": each.repository, "digest": each.digest, "tag": each.tag, "why": str(each.why)} for each in gone[:TOLD]]
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


def _ruled(actor: Actor) -> Iterator[_Ruled]:
    mine = list(Rule.objects.for_actor(actor).order_by("pk"))
    for row in Repository.objects.for_actor(actor).order_by("name") if mine else ():
        found = rules.fitting(mine, row.name)
        if any(rule.kind == Rule.KEEP for rule in found):
            yield _Ruled(row, found)


class _Ruled:
    """A repository that rules are for, now."""

    def __init__(self, row: Repository, found: list[Rule]) -> None:
        self.row, self._now = row, timezone.now()
        self._keeping = [rule for rule in found if rule.kind == Rule.KEEP]
        self._immutable = [rule for rule in found if rule.kind == Rule.IMMUTABLE]

    def verdicts(self) -> Iterator[Verdict]:
        found = Tag.objects.filter(repository=self.row).select_related("manifest").defer("manifest__body")
        tags = list(found.order_by("-pushed_at", "-pk"))
        kept: dict[int, Why] = {}
        for rule in self._keeping:
            for place, tag in enumerate((tag for tag in tags if matches(rule.tags, tag.name)), 1):
                if (why := self._kept_by(rule, tag, place)) is not None:
                    kept.setdefault(tag.pk, why)
        for tag in tags:
            stays = self._sacred(tag) or kept.get(tag.pk)
            yield Verdict(self.row.name, tag.manifest.digest, tag.name, stays is not None, stays or _NO_RULE)
        if days := max(rule.untagged_days for rule in self._keeping):
            yield from self._untagged(days)

    def _kept_by(self, rule: Rule, tag: Tag, place: int) -> Why | None:
        words = {"rule": f"{rule.repositories}:{rule.tags}"}
        if place <= rule.last:
            return Why(_LAST, {**words, "n": rule.last})
        if self._within(tag.pushed_at, rule.pushed_days):
            return Why(_PUSHED, {**words, "n": rule.pushed_days})
        if self._within(tag.pulled_at, rule.pulled_days):
            return Why(_PULLED, {**words, "n": rule.pulled_days})
        return None

    def _within(self, moment: datetime | None, days: int) -> bool:
        return moment is not None and days > 0 and moment >= self._now - timedelta(days=days)

    def _sacred(self, tag: Tag) -> Why | None:
        """What keeps it whatever the rules say."""
        if tag.pinned:
            return _PINNED
        if any(matches(rule.tags, tag.name) for rule in self._immutable):
            return _IMMUTABLE
        return _USED if tag.manifest_id in self._used else None

    def _untagged(self, days: int) -> Iterator[Verdict]:
        """Neither a platform of an index that is there, nor about a manifest that is: signatures and the like go when that has gone."""
        present = queries.present(self.row.pk)
        there = set(present.values_list("digest", flat=True))
        old = present.filter(tags=None, pushed_at__lt=self._now - timedelta(days=days)).defer("body")
        for row in old.order_by("pk"):
            if row.digest not in self.needed and row.subject not in there:
                stays = row.pk in self._used
                yield Verdict(self.row.name, row.digest, "", stays, _USED if stays else Why(_UNTAGGED, {"n": days}))

    @cached_property
    def _members(self) -> dict[int, set[str]]:
        """By index: the digests of the manifests that it is made of."""
        indexes = queries.present(self.row.pk).filter(media_type__in=(INDEX, DOCKER_LIST))
        return {row.pk: {each["digest"] for each in manifests.members(bytes(row.body))} for row in indexes}

    @cached_property
    def needed(self) -> set[str]:
        """Manifests that an index is made of: of these a tag goes alone."""
        return set().union(*self._members.values())

    @cached_property
    def _used(self) -> set[int]:
        """Manifests whose image a container of the tenant has (the config's digest is the image's id, for docker as for us), and the
        indexes that name them. Who else runs what is nobody's to learn here."""
        configs = Container.everywhere.filter(tenant_id=self.row.tenant_id).values("image_id")
        needs = Need.objects.filter(link__repository=self.row, link__blob__digest__in=configs)
        found = set(needs.values_list("manifest_id", flat=True))
        digests = set(Manifest.everywhere.filter(pk__in=found).values_list("digest", flat=True))
        return found | {index for index, members in self._members.items() if members & digests} if found else found


def _remove(actor: Actor, ruled: _Ruled, verdict: Verdict) -> None:
    row = queries.present(ruled.row.pk).filter(digest=verdict.digest).defer("body").select_related("repository").first()
    if row is None:
        return
    if verdict.tag and (verdict.digest in ruled.needed or row.tags.exclude(name=verdict.tag).exists()):
        row.tags.filter(name=verdict.tag).delete()
        history.note(actor, row.repository_id, [verdict.tag], "")
        audit.record(actor, "registry.delete", f"{verdict.repository}:{verdict.tag}", before=verdict.digest, why=str(verdict.why))
    else:
        trash.discard(actor, row, why=str(verdict.why))
