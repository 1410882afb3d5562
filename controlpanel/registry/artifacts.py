"""What is in the registry, for people: the repositories with their sums, and one image as its manifest and config tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from controlpanel.registry import manifests, queries
from controlpanel.registry.manifests import DOCKER_LIST, INDEX
from controlpanel.registry.models import PUBLIC, Link, Manifest, Repository
from controlpanel.registry.names import is_digest
from controlpanel.registry.storage import storage
from controlpanel.tenants.actor import Actor

_CONFIG_MAX: Final = 1 << 20  # bytes of a config that a page reads
_REFERRERS: Final = 50


class RepositoryShown(NamedTuple):
    """``size_bytes``: of its blobs, each once."""

    name: str
    public: bool
    tags: int
    size_bytes: int
    pulls: int
    pushed_at: datetime | None


def repositories(actor: Actor) -> list[RepositoryShown]:
    """That have an image, those pushed to last first."""
    sizes = (
        Link.everywhere.filter(repository=OuterRef("pk"), live=True).order_by().values("repository").annotate(sum=Sum("blob__size_bytes"))
    )
    there = Manifest.everywhere.filter(repository=OuterRef("pk"), deleted_at=None).order_by().values("repository")
    rows = Repository.objects.for_actor(actor).annotate(
        count=Count("tags", distinct=True),
        size=Coalesce(Subquery(sizes.values("sum")), 0),
        pulls=Coalesce(Subquery(there.annotate(sum=Sum("pulls")).values("sum")), 0),
        pushed=Max("manifests__pushed_at", filter=Q(manifests__deleted_at=None)),
    )
    return [
        RepositoryShown(row.name, row.visibility == PUBLIC, row.count, row.size, row.pulls, row.pushed)
        for row in rows.filter(pushed__isnull=False).order_by("-pushed", "name")
    ]


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    media_type: str
    size_bytes: int
    made_by: str = ""  # the step that made it


@dataclass(frozen=True, slots=True)
class ImageShown:
    digest: str
    media_type: str
    by_digest: bool
    document: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    platforms: list[dict[str, Any]] = field(default_factory=list)  # of an index: {"digest", "platform", "size"}
    referrers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def platform(self) -> str:
        return platform_of(self.config)


def read(name: str, reference: str) -> ImageShown:
    """Refused when it is not there."""
    found = queries.manifest(name, reference)
    document: dict[str, Any] = json.loads(found.body)
    referrers, _after = queries.referrers(name, found.digest, artifact_type="", after=0)
    words: dict[str, Any] = {
        "digest": found.digest,
        "media_type": found.media_type,
        "by_digest": is_digest(reference),
        "document": document,
        "referrers": referrers[:_REFERRERS],
    }
    if found.media_type in (INDEX, DOCKER_LIST):
        members = manifests.members(found.body)
        return ImageShown(**words, platforms=[{**each, "platform": platform_of(each.get("platform") or {})} for each in members])
    config = _config(name, document)
    return ImageShown(**words, config=config, layers=_layers(document, config))


def platform_of(words: dict[str, Any]) -> str:
    parts = [str(words.get(name) or "") for name in ("os", "architecture", "variant")]
    return "/".join(part for part in parts if part)


def _config(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """{} where it is no JSON that describes an image: artifacts have configs of any kind."""
    described = document.get("config")
    digest = described.get("digest") if isinstance(described, dict) else None
    if not isinstance(digest, str) or not is_digest(digest):
        return {}
    blob = queries.blob(name, digest)
    if blob.size_bytes > _CONFIG_MAX:
        return {}
    try:
        reader = storage().open_blob(blob.file)
        try:
            found = json.loads(reader.read(0, blob.size_bytes)) if blob.size_bytes else {}
        finally:
            reader.close()
    except (OSError, EOFError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _layers(document: dict[str, Any], config: dict[str, Any]) -> list[Layer]:
    steps = config.get("history")
    steps = steps if isinstance(steps, list) else []
    made = [str(step.get("created_by") or "") for step in steps if isinstance(step, dict) and not step.get("empty_layer")]
    layers = [each for each in document.get("layers") or [] if isinstance(each, dict)]
    return [
        Layer(
            digest=str(each.get("digest", "")),
            media_type=str(each.get("mediaType", "")),
            size_bytes=each["size"] if isinstance(each.get("size"), int) else 0,
            made_by=made[place] if len(made) == len(layers) else "",
        )
        for place, each in enumerate(layers)
    ]
