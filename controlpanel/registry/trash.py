"""The trash: a manifest that was deleted, by hand or by a rule, can be had back for REGISTRY_TRASH_DAYS.

Meanwhile it is there for nobody: no tag, no digest, no list finds it, and the blobs that it alone needs are not read. Its bytes count, for
they are on the disk; who needs the room empties the trash. With 0 days what is deleted is gone at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from controlpanel.audit import services as audit
from controlpanel.registry import history, links
from controlpanel.registry.models import Link, Manifest, Tag
from controlpanel.tenants.actor import Actor
from engine.errors import NotFound

_TOLD: Final = 10  # tags, in the audit log


def discard(actor: Actor, row: Manifest, **why: str) -> None:
    """With its tags. ``row``: with its repository."""
    tags = sorted(row.tags.values_list("name", flat=True))
    row.tags.all().delete()
    history.note(actor, row.repository_id, tags, "")
    audit.record(actor, "registry.delete", f"{row.repository.name}@{row.digest}", tags=tags[:_TOLD], bytes=row.size_bytes, **why)
    if not settings.REGISTRY_TRASH_DAYS:
        remove(row)
        return
    row.deleted_at, row.deleted_by, row.lost_tags = timezone.now(), actor.label[:200], tags
    row.save(update_fields=["deleted_at", "deleted_by", "lost_tags"])
    alone = Link.everywhere.filter(needs__manifest=row).exclude(needs__manifest__in=Manifest.everywhere.filter(deleted_at=None))
    Link.everywhere.filter(pk__in=list(alone.values_list("pk", flat=True))).update(live=False)


def revive(row: Manifest) -> None:
    """Without its tags, for who pushes it again."""
    Link.everywhere.filter(pk__in=list(row.needs.values_list("link_id", flat=True))).update(live=True)
    row.deleted_at, row.deleted_by, row.lost_tags = None, "", []
    row.save(update_fields=["deleted_at", "deleted_by", "lost_tags"])


def restore(actor: Actor, name: str, digest: str) -> list[str]:
    """With those of its tags that were not given to another manifest since; their names."""
    row = found(actor, name, digest)
    taken = set(Tag.objects.filter(repository=row.repository_id, name__in=row.lost_tags).values_list("name", flat=True))
    free = [tag for tag in row.lost_tags if tag not in taken]
    revive(row)
    Tag.objects.bulk_create([Tag(repository_id=row.repository_id, manifest=row, name=tag, pushed_by=actor.label[:200]) for tag in free])
    history.note(actor, row.repository_id, free, digest)
    audit.record(actor, "registry.restore", f"{name}@{digest}", tags=free[:_TOLD])
    return free


def empty(actor: Actor, rows: Iterable[Manifest]) -> int:
    """For good; bytes of manifests and blobs that are free now are the quota's at once."""
    count = 0
    for row in rows:
        audit.record(actor, "registry.purge", f"{row.repository.name}@{row.digest}", bytes=row.size_bytes)
        remove(row)
        count += 1
    return count


def content(actor: Actor) -> list[Manifest]:
    """Of the actor's tenant, what was deleted last first."""
    rows = Manifest.objects.for_actor(actor).filter(deleted_at__isnull=False)
    return list(rows.select_related("repository").defer("body").order_by("-deleted_at", "-pk"))


def found(actor: Actor, name: str, digest: str) -> Manifest:
    rows = Manifest.objects.for_actor(actor).filter(repository__name=name, digest=digest, deleted_at__isnull=False)
    row: Manifest | None = rows.select_related("repository").defer("body").first()
    if row is None:
        raise NotFound(f"there is no {name}@{digest} in the trash: it was never there, was had back, or its time is over")
    return row


def expired() -> list[Manifest]:
    """Those whose time is over, for cleaning.py."""
    before = timezone.now() - timedelta(days=settings.REGISTRY_TRASH_DAYS)
    return list(Manifest.everywhere.filter(deleted_at__lt=before).defer("body").order_by("pk"))


def remove(row: Manifest) -> None:
    had = list(row.needs.values_list("link_id", flat=True))
    row.delete()
    links.unlink(had)
