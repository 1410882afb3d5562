"""Writes: manifests and tags put, everything deleted, blobs mounted. Blobs that come as bytes are uploads.py's, the trash is trash.py's.

Each function is one transaction, called in the writer thread by ``database.run``, and has checked nothing of who asks: the door has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controlpanel.audit import services as audit
from controlpanel.registry import charged, history, links, queries, rules, trash
from controlpanel.registry.errors import Refused
from controlpanel.registry.manifests import Manifest as Parsed
from controlpanel.registry.models import Blob, Link, Manifest, Need, Repository, Tag
from controlpanel.registry.names import is_digest
from controlpanel.tenants.actor import Actor
from engine.errors import NotFound

_TOLD: Final = 10  # of what is missing


def to_push(actor: Actor, name: str) -> Repository:
    """The repository, made when absent. ``name`` begins with the actor's tenant."""
    return Repository.everywhere.get_or_create(name=name, defaults={"tenant_id": actor.tenant_number})[0]


def put_manifest(actor: Actor, name: str, digest: str, parsed: Parsed, body: bytes, tags: Sequence[str]) -> None:
    repository = to_push(actor, name)
    row = Manifest.everywhere.filter(repository=repository, digest=digest).first()
    if row is not None and row.deleted_at is not None:
        trash.revive(row)
    if row is None or row.media_type != parsed.media_type:  # the same bytes may be sent as something else, which needs other blobs
        needed = _links(repository, parsed)
        _check_children(repository, parsed)
        if row is None:
            charged.admit(repository.tenant_id, len(body))
            row = Manifest(tenant_id=repository.tenant_id, repository=repository, digest=digest, size_bytes=len(body), body=body)
        row.media_type, row.artifact_type, row.subject = parsed.media_type, parsed.artifact_type, parsed.subject
        row.annotations = parsed.annotations if parsed.subject else {}
        row.pushed_by = actor.label[:200]
        row.save()
        row.needs.all().delete()
        Need.objects.bulk_create([Need(manifest=row, link_id=link) for link in needed], batch_size=links.SOME)
    for tag in tags:
        _put_tag(actor, repository, tag, row)
    if not tags:
        audit.record(actor, "registry.push", f"{name}@{digest}", bytes=len(body))


def _put_tag(actor: Actor, repository: Repository, name: str, manifest: Manifest) -> None:
    known = Tag.objects.filter(repository=repository, name=name).select_related("manifest").first()
    before = known.manifest.digest if known else None
    if before is not None and before != manifest.digest:
        rules.check_mutable(repository, [name])
    tag = known or Tag(repository=repository, name=name)
    tag.manifest, tag.pushed_by = manifest, actor.label[:200]
    tag.save()
    if before != manifest.digest:
        history.note(actor, repository.pk, [name], manifest.digest)
    audit.record(actor, "registry.push", f"{repository.name}:{name}", before=before, after=manifest.digest)


def _links(repository: Repository, parsed: Parsed) -> list[int]:
    """Of the blobs that the manifest needs. Refused when one is missing, or is not as large as the manifest says."""
    found: dict[str, tuple[int, int]] = {}
    for some in links.in_parts(parsed.blobs):
        rows = Link.everywhere.filter(repository=repository, live=True, blob__digest__in=some).select_for_update(of=("self",))
        found |= {digest: (pk, size) for digest, pk, size in rows.values_list("blob__digest", "pk", "blob__size_bytes")}
    _none_missing([digest for digest in parsed.blobs if digest not in found and digest not in parsed.elsewhere])
    for digest, (_pk, size) in found.items():
        if parsed.blobs[digest] not in (-1, size):
            raise Refused("SIZE_INVALID", f"the manifest says that {digest} has {parsed.blobs[digest]} bytes: it has {size}", digest=digest)
    return [pk for pk, _size in found.values()]


def _check_children(repository: Repository, parsed: Parsed) -> None:
    found: set[str] = set()
    for some in links.in_parts(parsed.children):
        found |= set(queries.present(repository).filter(digest__in=some).values_list("digest", flat=True))
    _none_missing([digest for digest in parsed.children if digest not in found])


def _none_missing(digests: list[str]) -> None:
    if digests:
        raise Refused("MANIFEST_BLOB_UNKNOWN", digests=digests[:_TOLD])


def delete_manifest(actor: Actor, name: str, reference: str) -> None:
    """By its digest, with all its tags, into the trash; or a tag alone."""
    found = queries.repository(name)
    if is_digest(reference):
        row = queries.present(found.id).filter(digest=reference).defer("body").select_related("repository").first()
        if row is None:
            raise Refused("MANIFEST_UNKNOWN", reference=reference)
        rules.check_mutable(row.repository, row.tags.values_list("name", flat=True))
        trash.discard(actor, row)
        return
    tag = Tag.objects.filter(repository_id=found.id, name=reference).select_related("manifest", "repository").first()
    if tag is None:
        raise Refused("MANIFEST_UNKNOWN", reference=reference)
    rules.check_mutable(tag.repository, [reference])
    tag.delete()
    history.note(actor, found.id, [reference], "")
    audit.record(actor, "registry.delete", f"{name}:{reference}", before=tag.manifest.digest)


def delete_blob(actor: Actor, name: str, digest: str) -> None:
    """Refused while a manifest of the repository needs it: that would be broken, whoever pulls it."""
    repository = queries.repository(name)
    link = Link.everywhere.filter(repository_id=repository.id, live=True, blob__digest=digest).first()
    if link is None:
        raise Refused("BLOB_UNKNOWN", digest=digest)
    user = link.needs.filter(manifest__deleted_at=None).values_list("manifest__digest", flat=True).first()
    if user is not None:
        raise Refused("UNSUPPORTED", f"manifest {user} needs this blob: delete that first", manifest=user)
    Link.everywhere.filter(pk=link.pk).update(live=False)
    links.unlink([link.pk])  # unless something in the trash needs it
    audit.record(actor, "registry.delete", f"{name}@{digest}", kind="blob")


def mount(actor: Actor, name: str, digest: str, source: str, *, public_only: bool) -> bool:
    """Whether the repository has the blob now, because ``source`` has it."""
    try:
        queries.blob(source, digest, public_only=public_only)
    except Refused:
        return False
    blob = Blob.objects.select_for_update().filter(digest=digest).first()
    if blob is None:
        return False
    links.hold(actor, to_push(actor, name), blob)
    return True


def set_visibility(actor: Actor, name: str, visibility: str) -> None:
    row = Repository.objects.for_actor(actor).filter(name=name).first()
    if row is None:
        raise NotFound(f"No such repository: {name}")
    before, row.visibility = row.visibility, visibility
    row.save(update_fields=["visibility"])
    audit.record(actor, "registry.visibility", name, before=before, after=visibility)
