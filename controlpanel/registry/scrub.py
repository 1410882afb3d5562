"""The registry's bytes read again, in the background, those first that were not read for the longest time: a disk that rots is told of
before somebody needs what was on it.

A blob whose bytes are others than its digest says, or whose file is gone, is marked; whoever pushes it again brings it back (uploads.py).
"""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from controlpanel.registry.models import Blob
from controlpanel.registry.storage import storage

log = logging.getLogger(__name__)

PIECE: Final = 1 << 20  # bytes
RATE: Final = 32 << 20  # bytes a second: the disk is others' too
AGAIN: Final = timedelta(days=7)  # a blob is read as often as that at most
TURN_S: Final = 60.0  # of one call


def scrub(seconds: float = TURN_S, rate: int = RATE, again: timedelta = AGAIN) -> tuple[int, int]:
    """How many blobs were read, and how many of them are rotten. Ends between two blobs."""
    until, read, rotten, before = time.monotonic() + seconds, 0, 0, timezone.now() - again
    while time.monotonic() < until:
        due = Blob.objects.exclude(checked_at__gte=before)
        row = due.order_by(F("checked_at").asc(nulls_first=True), "pk").first()
        if row is None:
            break
        well = _is_well(row, rate)
        read, rotten = read + 1, rotten + (not well)
        if not well and not row.is_rotten and Blob.objects.filter(pk=row.pk).exists():
            log.error("registry: blob %s is not what it was: its file %s is damaged or gone; push it again", row.digest, row.file)
        with transaction.atomic():
            Blob.objects.filter(pk=row.pk, file=row.file).update(checked_at=timezone.now(), is_rotten=not well)
    return read, rotten


def _is_well(row: Blob, rate: int) -> bool:
    algorithm, _colon, digits = row.digest.partition(":")
    digest, at = hashlib.new(algorithm), 0
    try:
        reader = storage().open_blob(row.file)
    except FileNotFoundError:
        return False
    began = time.monotonic()
    try:
        while at < row.size_bytes:
            data = reader.read(at, min(PIECE, row.size_bytes - at))
            digest.update(data)
            at += len(data)
            time.sleep(max(0.0, at / rate - (time.monotonic() - began)))
    except (EOFError, OSError):
        return False
    finally:
        reader.close()
    return digest.hexdigest() == digits
