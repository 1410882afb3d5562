"""What nobody has any more: uploads that nobody goes on with, blobs that no manifest came for, files that no row knows, and what has lain
in the trash for its time.

It runs beside everything else. A file is removed only after its row, and what has no row yet is younger than a day: an upload's row
comes right after its file, a blob's right after its name (storage.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.db import connection, transaction
from django.utils import timezone

from controlpanel.registry import links, trash
from controlpanel.registry.models import Blob, Link, Repository, Upload
from controlpanel.registry.storage import Storage, storage

KEPT: Final = timedelta(days=1)
_AT_ONCE: Final = 200  # rows of one transaction: others write between them


def tidy() -> None:
    """For the panel worker's schedule."""
    connection.close_if_unusable_or_obsolete()
    before = timezone.now() - KEPT
    store = storage()
    for key in Upload.everywhere.filter(touched_at__lt=before).values_list("key", flat=True):
        _drop_upload(store, key)
    for row in trash.expired():
        with transaction.atomic():
            trash.remove(row)
    _in_turns(list(Link.everywhere.filter(needs=None, created_at__lt=before).values_list("pk", flat=True)), links.unlink)
    _in_turns(list(Blob.objects.filter(links=None).values_list("pk", flat=True)), links.drop_free_blobs)
    with transaction.atomic():
        Repository.everywhere.filter(manifests=None, links=None, uploads=None, created_at__lt=before).delete()
    _drop_strangers(store)


def _drop_upload(store: Storage, key: str) -> None:
    """Unless somebody is sending to it right now, and has for a day."""
    try:
        store.open_upload(key).close()
    except BlockingIOError:
        return
    except FileNotFoundError:
        pass
    Upload.everywhere.filter(key=key).delete()
    store.drop_upload(key)


def _in_turns(rows: list[int], act: Callable[[list[int]], object]) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        with transaction.atomic():
            act(rows[start : start + _AT_ONCE])


def _drop_strangers(store: Storage) -> None:
    """Files of a tenant that was deleted, or whose row a kill has come before."""
    old = {"older_than_s": KEPT.total_seconds(), "now_s": time.time()}
    for file in store.blobs(**old):
        if not Blob.objects.filter(file=file).exists():
            store.drop_blob(file)
    for key in store.uploads(**old):
        if not Upload.everywhere.filter(key=key).exists():
            store.drop_upload(key)
