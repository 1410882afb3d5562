"""Writes: manifests and tags put, everything deleted, blobs mounted. Blobs that come as bytes are uploads.py's.

Each function is one transaction, called in the writer thread by ``database.run``, and has checked nothing of who asks: the door has
(access.py). Files of storage go after the commit that takes their row away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from django.db import transaction

from controlpanel.audit import services as audit
from controlpanel.registry import charged, queries
from controlpanel.registry.errors import Refused
from controlpanel.registry.manifests import Manifest as Parsed
from controlpanel.registry.models import Blob, Link, Manifest, Need, Repository, Tag
from controlpanel.registry.names import is_digest
from controlpanel.registry.storage import storage
from controlpanel.tenants.actor import Actor
from engine.errors import NotFound

_SOME: Final = 500  # words of one statement
_TOLD: Final = 10  # of what is missing


def to_push(actor: Actor, name: str) -> Repository:
    """The repository, made when absent. ``name`` begins with the actor's tenant."""
    return Repository.everywhere.get_or_create(name=name, defaults={"tenant_id": actor.tenant_number})[0]


def put_manifest(actor: Actor, name: str, digest: str, parsed: Parsed, body: bytes, tags: Sequence[str]) -> None:
    repository = to_push(actor, name)
    row = Manifest.everywhere.filter(repository=repository, digest=digest).first()
    if row is None or row.media_type != parsed.media_type:  # the same bytes may be sent as something else, which needs other blobs
        links = _links(repository, parsed)
        _check_children(repository, parsed)
        if row is None:
            charged.admit(repository.tenant_id, len(body))
            row = Manifest(tenant_id=repository.tenant_id, repository=repository, digest=digest, size_bytes=len(body), body=body)
        row.media_type, row.artifact_type, row.subject = parsed.media_type, parsed.artifact_type, parsed.subject
        row.annotations = parsed.annotations if parsed.subject else {}
        row.pushed_by = actor.label[:200]
        row.save()
        row.needs.all().delete()
        Need.objects.bulk_create([Need(manifest=row, link_id=link) for link in links], batch_size=_SOME)
    for tag in tags:
        _put_tag(actor, repository, tag, row)
    if not tags:
        audit.record(actor, "registry.push", f"{name}@{digest}", bytes=len(body))


def _put_tag(actor: Actor, repository: Repository, name: str, manifest: Manifest) -> None:
    known = Tag.objects.filter(repository=repository, name=name).select_related("manifest").first()
    before = known.manifest.digest if known else None
    tag = known or Tag(repository=repository, name=name)
    tag.manifest, tag.pushed_by = manifest, actor.label[:200]
    tag.save()
    audit.record(actor, "registry.push", f"{repository.name}:{name}", before=before, after=manifest.digest)


def _links(repository: Repository, parsed: Parsed) -> list[int]:
    """Of the blobs that the manifest needs. Refused when one is missing, or is not as large as the manifest says."""
    found: dict[str, tuple[int, int]] = {}
    for some in _in_parts(parsed.blobs):
        rows = Link.everywhere.filter(repository=repository, blob__digest__in=some).select_for_update(of=("self",))
        found |= {digest: (pk, size) for digest, pk, size in rows.values_list("blob__digest", "pk", "blob__size_bytes")}
    _none_missing([digest for digest in parsed.blobs if digest not in found and digest not in parsed.elsewhere])
    for digest, (_pk, size) in found.items():
        if parsed.blobs[digest] not in (-1, size):
            raise Refused("SIZE_INVALID", f"the manifest says that {digest} has {parsed.blobs[digest]} bytes: it has {size}", digest=digest)
    return [pk for pk, _size in found.values()]


def _check_children(repository: Repository, parsed: Parsed) -> None:
    found: set[str] = set()
    for some in _in_parts(parsed.children):
        found |= set(Manifest.everywhere.filter(repository=repository, digest__in=some).values_list("digest", flat=True))
    _none_missing([digest for digest in parsed.children if digest not in found])


def _none_missing(digests: list[str]) -> None:
    if digests:
        raise Refused("MANIFEST_BLOB_UNKNOWN", digests=digests[:_TOLD])


def delete_manifest(actor: Actor, name: str, reference: str) -> None:
    """By its digest, with all its tags; or a tag alone."""
    repository = queries.repository(name)
    if not is_digest(reference):
        tag = Tag.objects.filter(repository_id=repository.id, name=reference).select_related("manifest").first()
        if tag is None:
            raise Refused("MANIFEST_UNKNOWN", reference=reference)
        tag.delete()
        audit.record(actor, "registry.delete", f"{name}:{reference}", before=tag.manifest.digest)
        return
    row = Manifest.everywhere.filter(repository_id=repository.id, digest=reference).defer("body").first()
    if row is None:
        raise Refused("MANIFEST_UNKNOWN", reference=reference)
    tags = sorted(row.tags.values_list("name", flat=True))
    links = list(row.needs.values_list("link_id", flat=True))
    row.delete()
    unlink(links)
    audit.record(actor, "registry.delete", f"{name}@{reference}", tags=tags[:_TOLD], bytes=row.size_bytes)


def delete_blob(actor: Actor, name: str, digest: str) -> None:
    """Refused while a manifest of the repository needs it: that would be broken, whoever pulls it."""
    repository = queries.repository(name)
    link = Link.everywhere.filter(repository_id=repository.id, blob__digest=digest).first()
    if link is None:
        raise Refused("BLOB_UNKNOWN", digest=digest)
    user = link.needs.values_list("manifest__digest", flat=True).first()
    if user is not None:
        raise Refused("UNSUPPORTED", f"manifest {user} needs this blob: delete that first", manifest=user)
    unlink([link.pk])
    audit.record(actor, "registry.delete", f"{name}@{digest}", kind="blob")


def unlink(links: Collection[int]) -> None:
    """Those that no manifest needs go, and with the last link of a blob the blob. A manifest that is being put holds its links' rows."""
    blobs: set[int] = set()
    for some in _in_parts(links):
        locked = list(Link.everywhere.filter(pk__in=some).select_for_update().values_list("pk", flat=True))
        free = Link.everywhere.filter(pk__in=locked, needs=None)
        blobs |= set(free.values_list("blob_id", flat=True))
        free.delete()
    for some in _in_parts(blobs):
        drop_free_blobs(some)


def drop_free_blobs(blobs: Sequence[int]) -> int:
    """Of these, those that no repository has. A link that is being made holds its blob's row (PostgreSQL; SQLite has one writer)."""
    locked = list(Blob.objects.filter(pk__in=blobs).select_for_update().values_list("pk", flat=True))
    files = dict(Blob.objects.filter(pk__in=locked, links=None).values_list("pk", "file"))
    Blob.objects.filter(pk__in=files).delete()
    after_commit(storage().drop_blob, *files.values())
    return len(files)


def after_commit(call: Callable[[str], None], *words: str) -> None:
    """For each; what a crash leaves undone cleaning.py finds."""
    for word in words:
        transaction.on_commit(partial(call, word))


def hold(actor: Actor, repository: Repository, blob: Blob) -> None:
    """The repository has the blob from now on. QuotaExceeded when the tenant had it not, and has no room for it."""
    if not Link.everywhere.filter(tenant_id=repository.tenant_id, blob=blob).exists():
        charged.admit(repository.tenant_id, blob.size_bytes)
    _link, made = Link.everywhere.get_or_create(repository=repository, blob=blob, defaults={"tenant_id": repository.tenant_id})
    if made:
        audit.record(actor, "registry.push", f"{repository.name}@{blob.digest}", kind="blob", bytes=blob.size_bytes)


def mount(actor: Actor, name: str, digest: str, source: str, *, public_only: bool) -> bool:
    """Whether the repository has the blob now, because ``source`` has it."""
    try:
        queries.blob(source, digest, public_only=public_only)
    except Refused:
        return False
    blob = Blob.objects.select_for_update().filter(digest=digest).first()
    if blob is None:
        return False
    hold(actor, to_push(actor, name), blob)
    return True


def set_visibility(actor: Actor, name: str, visibility: str) -> None:
    row = Repository.objects.for_actor(actor).filter(name=name).first()
    if row is None:
        raise NotFound(f"No such repository: {name}")
    before, row.visibility = row.visibility, visibility
    row.save(update_fields=["visibility"])
    audit.record(actor, "registry.visibility", name, before=before, after=visibility)


def _in_parts(words: Collection[Any]) -> Iterator[list[Any]]:
    """SQLite takes so many words in one statement and no more."""
    rest = iter(words)
    while some := list(islice(rest, _SOME)):
        yield some
