"""Reads. Whoever calls has found out what the asker may see: everything of a tenant, or what is public alone (``public_only``).

Plain SQL where each pull comes by: compiling a query of the ORM costs ten times what SQLite needs to answer it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, models
from django.db.models import Exists, OuterRef
from django.db.models.functions import Collate

from controlpanel.registry import manifests
from controlpanel.registry.errors import Refused
from controlpanel.registry.manifests import INDEX
from controlpanel.registry.models import PUBLIC, Manifest, Repository, Tag
from controlpanel.registry.names import fallback_tag, is_digest

PAGE: Final = 1000  # names of a list, unless fewer are asked for
REFERRERS_PAGE: Final = 100
REFERRERS_BYTES: Final = 2 << 20  # of annotations in one answer

_REPOSITORY: Final = "SELECT id, tenant_id, visibility FROM registry_repository WHERE name = %s"
_MANIFEST: Final = (
    "SELECT digest, media_type, body, id, 0 FROM registry_manifest WHERE repository_id = %s AND digest = %s AND deleted_at IS NULL"
)
_TAGGED: Final = (  # what lies in the trash has no tag
    "SELECT m.digest, m.media_type, m.body, m.id, t.id FROM registry_tag t JOIN registry_manifest m ON m.id = t.manifest_id "
    "WHERE t.repository_id = %s AND t.name = %s"
)
_BLOB: Final = (
    "SELECT b.digest, b.size_bytes, b.file FROM registry_blob b JOIN registry_link l ON l.blob_id = b.id "
    "WHERE b.digest = %s AND l.repository_id = %s AND l.live AND NOT b.is_rotten"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A repository's row."""

    id: int
    tenant_id: int
    public: bool


@dataclass(frozen=True, slots=True)
class FoundManifest:
    digest: str
    media_type: str
    body: bytes
    id: int
    tag_id: int  # 0: by its digest


@dataclass(frozen=True, slots=True)
class FoundBlob:
    digest: str
    size_bytes: int
    file: str


def repository(name: str, *, public_only: bool = False) -> Found:
    """Refused (NAME_UNKNOWN), in the same words whether it is not there or not to be seen."""
    row = _one(_REPOSITORY + (" AND visibility = %s" if public_only else ""), [name, PUBLIC] if public_only else [name])
    if row is None:
        raise Refused("NAME_UNKNOWN", name=name)
    return Found(row[0], row[1], row[2] == PUBLIC)


def is_public(name: str) -> bool:
    return _one(_REPOSITORY + " AND visibility = %s", [name, PUBLIC]) is not None


def present(repository: Any) -> models.QuerySet[Manifest]:
    """The repository's manifests, without those in the trash."""
    return Manifest.everywhere.filter(repository=repository, deleted_at=None)


def manifest(name: str, reference: str, *, public_only: bool = False) -> FoundManifest:
    """``reference``: a tag or a digest."""
    found = repository(name, public_only=public_only)
    row = _one(_MANIFEST if is_digest(reference) else _TAGGED, [found.id, reference])
    if row is None:
        raise Refused("MANIFEST_UNKNOWN", reference=reference)
    return FoundManifest(row[0], row[1], bytes(row[2]), row[3], row[4])


def blob(name: str, digest: str, *, public_only: bool = False) -> FoundBlob:
    found = repository(name, public_only=public_only)
    row = _one(_BLOB, [digest, found.id])
    if row is None:
        raise Refused("BLOB_UNKNOWN", digest=digest)
    return FoundBlob(*row)


def tags(name: str, *, last: str, limit: int, public_only: bool = False) -> list[str]:
    """Up to ``limit`` after ``last``, in the order of their bytes."""
    found = repository(name, public_only=public_only)
    names = Tag.objects.filter(repository_id=found.id).annotate(word=_by_bytes("name")).order_by("word")
    listed = list(names.filter(word__gt=last).values_list("name", flat=True)[:limit])
    if not listed and not present(found.id).exists():
        raise Refused("NAME_UNKNOWN", name=name)
    return listed


def catalog(tenants: Collection[int], *, last: str, limit: int) -> list[str]:
    """Repositories of these tenants that have a manifest."""
    pushed = Exists(present(OuterRef("pk")))
    names = Repository.everywhere.filter(pushed, tenant_id__in=tenants).annotate(word=_by_bytes("name")).order_by("word")
    return list(names.filter(word__gt=last).values_list("name", flat=True)[:limit])


def referrers(name: str, digest: str, *, artifact_type: str, after: int, public_only: bool = False) -> tuple[list[dict[str, Any]], int]:
    """Descriptors of the manifests about ``digest``, and from where to go on; 0: these are all."""
    found = repository(name, public_only=public_only)
    rows = present(found.id).filter(subject=digest, pk__gt=after).order_by("pk").defer("body")
    if artifact_type:
        rows = rows.filter(artifact_type=artifact_type)
    listed: list[dict[str, Any]] = []
    weight = 0
    for row in rows[: REFERRERS_PAGE + 1]:
        weight += sum(len(key) + len(value) for key, value in row.annotations.items())
        if len(listed) == REFERRERS_PAGE or (listed and weight > REFERRERS_BYTES):
            return listed, after
        listed.append(_descriptor(row))
        after = row.pk
    return listed + _by_fallback(found.id, digest, artifact_type), 0


def about(name: str, digest: str) -> list[str]:
    """Digests of the manifests whose subject that is."""
    rows = present(repository(name).id).filter(subject=digest).order_by("pk")
    return list(rows.values_list("digest", flat=True)[:REFERRERS_PAGE])


def _descriptor(row: Manifest) -> dict[str, Any]:
    words: dict[str, Any] = {"mediaType": row.media_type, "size": row.size_bytes, "digest": row.digest}
    if row.artifact_type:
        words["artifactType"] = row.artifact_type
    if row.annotations:
        words["annotations"] = row.annotations
    return words


def _by_fallback(repository_id: int, digest: str, artifact_type: str) -> list[dict[str, Any]]:
    """What a client that knew no referrers API has noted under the tag that stands for it, of what has no subject of its own."""
    row = _one(_TAGGED, [repository_id, fallback_tag(digest)])
    if row is None or row[1] != INDEX:
        return []
    listed = manifests.members(bytes(row[2]))
    told = present(repository_id).filter(digest__in=[each["digest"] for each in listed])
    kept = set(told.exclude(subject=digest).values_list("digest", flat=True))
    return [each for each in listed if each["digest"] in kept and artifact_type in ("", each.get("artifactType"))]


def _by_bytes(column: str) -> Collate:
    """In the order of their bytes, which the specification calls lexical; SQLite's own, PostgreSQL's depends on where it was set up."""
    return Collate(column, _COLLATIONS[connection.vendor])


_COLLATIONS: Final = {"sqlite": "BINARY", "postgresql": "C"}


def _one(statement: str, words: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement, words)
        return cursor.fetchone()
