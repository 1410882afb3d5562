"""The tags of a repository, for people: what each is, how large, who pushed it and when, how often it is pulled; and pinning one."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db.models import F, Sum

from controlpanel.audit import services as audit
from controlpanel.registry import rules
from controlpanel.registry.models import Repository, Tag
from controlpanel.registry.names import matches
from controlpanel.tenants.actor import Actor
from engine.errors import NotFound


class Shown(NamedTuple):
    name: str
    digest: str
    media_type: str
    size_bytes: int
    pushed_at: datetime
    pushed_by: str
    pulled_at: datetime | None
    pulls: int
    pinned: bool
    immutable: bool


def repository(actor: Actor, name: str) -> Repository:
    row: Repository | None = Repository.objects.for_actor(actor).filter(name=name).first()
    if row is None:
        raise NotFound(f"No such repository: {name}")
    return row


def tags(actor: Actor, name: str) -> list[Shown]:
    """The last pushed first."""
    row = repository(actor, name)
    immutable = rules.immutable(row)
    found = Tag.objects.filter(repository=row).select_related("manifest").defer("manifest__body")
    sized = found.annotate(blobs=Sum("manifest__needs__link__blob__size_bytes"), own=F("manifest__size_bytes"))
    return [
        Shown(
            name=tag.name,
            digest=tag.manifest.digest,
            media_type=tag.manifest.media_type,
            size_bytes=tag.own + (tag.blobs or 0),
            pushed_at=tag.pushed_at,
            pushed_by=tag.pushed_by,
            pulled_at=tag.pulled_at,
            pulls=tag.pulls,
            pinned=tag.pinned,
            immutable=any(matches(rule.tags, tag.name) for rule in immutable),
        )
        for tag in sized.order_by("-pushed_at", "-pk")
    ]


def pin(actor: Actor, name: str, tag: str, pinned: bool) -> None:
    row = Tag.objects.filter(repository=repository(actor, name), name=tag).first()
    if row is None:
        raise NotFound(f"No such tag: {name}:{tag}")
    Tag.objects.filter(pk=row.pk).update(pinned=pinned)  # pushed_at stays
    audit.record(actor, "registry.pin", f"{name}:{tag}", before=row.pinned, after=pinned)
