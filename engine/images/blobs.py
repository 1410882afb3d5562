"""Which blob of the content store holds which layer of an image, compressed or not."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from engine.errors import Internal
from engine.images.streams import chunks, decompressed, drain, hashed
from engine.model.image import ImageRecord

if TYPE_CHECKING:
    from engine.images.store import ImageStore


def of_layers(store: ImageStore, record: ImageRecord) -> list[str]:
    """Hex digests, base first, one per diffID. Of an image that was brought in before this was noted they are found by reading, once."""
    digits = record.id.removeprefix("sha256:")
    known = store.records.layers(digits)
    if len(known) != len(record.diff_ids):
        known = _found(store, record, digits)
        store.records.write(record, (), layers=known)
    return known


def _found(store: ImageStore, record: ImageRecord, digits: str) -> list[str]:
    wanted = {diff_id.removeprefix("sha256:") for diff_id in record.diff_ids}
    blobs = store.records.blobs(digits) - {digits}
    by_diff = {blob: blob for blob in blobs & wanted}
    for blob in blobs - wanted:
        if by_diff.keys() >= wanted:
            break
        digest = hashlib.sha256()
        with store.content.path(blob).open("rb", buffering=0) as file:
            drain(hashed(decompressed(chunks(file)), digest))
        by_diff[digest.hexdigest()] = blob
    try:
        return [by_diff[diff_id.removeprefix("sha256:")] for diff_id in record.diff_ids]
    except KeyError as error:
        raise Internal(f"the content of layer {error.args[0][:12]} is not on this host any more") from None
