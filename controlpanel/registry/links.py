"""Which repository has which blob. A blob is there while one has it; its file goes after the commit that takes its row away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from django.db import transaction

from controlpanel.audit import services as audit
from controlpanel.registry import charged
from controlpanel.registry.models import Blob, Link, Repository
from controlpanel.registry.storage import storage
from controlpanel.tenants.actor import Actor

SOME: Final = 500  # words of one statement


def hold(actor: Actor, repository: Repository, blob: Blob) -> None:
    """The repository has the blob from now on. QuotaExceeded when the tenant had it not, and has no room for it."""
    if not Link.everywhere.filter(tenant_id=repository.tenant_id, blob=blob).exists():
        charged.admit(repository.tenant_id, blob.size_bytes)
    link, made = Link.everywhere.get_or_create(repository=repository, blob=blob, defaults={"tenant_id": repository.tenant_id})
    if not link.live:
        Link.everywhere.filter(pk=link.pk).update(live=True)
    if made or not link.live:
        audit.record(actor, "registry.push", f"{repository.name}@{blob.digest}", kind="blob", bytes=blob.size_bytes)


def unlink(links: Collection[int]) -> None:
    """Those that no manifest needs go, and with the last link of a blob the blob. A manifest that is being put holds its links' rows."""
    blobs: set[int] = set()
    for some in in_parts(links):
        locked = list(Link.everywhere.filter(pk__in=some).select_for_update().values_list("pk", flat=True))
        free = Link.everywhere.filter(pk__in=locked, needs=None)
        blobs |= set(free.values_list("blob_id", flat=True))
        free.delete()
    for some in in_parts(blobs):
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


def in_parts(words: Collection[Any]) -> Iterator[list[Any]]:
    """SQLite takes so many words in one statement and no more."""
    rest = iter(words)
    while some := list(islice(rest, SOME)):
        yield some
