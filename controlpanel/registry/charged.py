"""What the registry takes of a tenant's quota of images: each blob that any of its repositories has, once; its manifests; and what is
on its way, from the moment its size is known.

    rows        Manifest, Upload (models.py says so), and the blobs counted here
    announced   bytes that a request under way has said it will bring. Kept by this process alone: with a process that is killed they
                are gone, as are the bytes
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from django.db import connection

from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import IMAGES

_BLOBS: Final = (
    "SELECT COALESCE(SUM(size_bytes), 0) FROM registry_blob WHERE id IN (SELECT blob_id FROM registry_link WHERE tenant_id = %s)"
)
_announced: dict[int, tuple[int, int]] = {}  # tenant and bytes, by a number of ours
_numbers = count()


def registry_bytes(tenant_id: int) -> int:
    """Beside what ``ledger.counted`` sums."""
    with connection.cursor() as cursor:
        cursor.execute(_BLOBS, [tenant_id])
        held = int(cursor.fetchone()[0])
    return held + sum(size for whose, size in tuple(_announced.values()) if whose == tenant_id)


def admit(tenant_id: int, more: int) -> None:
    """Inside the transaction that takes them. QuotaExceeded with the figures."""
    ledger.account(tenant_id).admit({IMAGES: more})


def left(tenant_id: int) -> int | None:
    """None: as many as you like."""
    return ledger.account(tenant_id).left(IMAGES)


@contextmanager
def announced(tenant_id: int, size: int) -> Iterator[None]:
    """Bytes that were admitted and are not in a row yet. To be entered in the transaction that admits them."""
    number = next(_numbers)
    _announced[number] = (tenant_id, size)
    try:
        yield
    finally:
        _announced.pop(number, None)


ledger.counted_by(IMAGES, registry_bytes)
