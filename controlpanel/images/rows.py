"""Image rows following the host: the same change twice is one. Each function belongs inside a transaction.

What the host tells of its own accord travels slower than its answers: names are ordered by the host's time of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.db.models import Q

from controlpanel.base import live
from controlpanel.events import log
from controlpanel.events.models import Event
from controlpanel.images import charged
from controlpanel.images.models import Image, Tag
from engine.model import codec
from engine.model.image import ImageRecord


def put(tenant_id: int | None, record: ImageRecord) -> Image:
    """The row of this image in this tenant (None: public), made when absent."""
    row, made = Image.everywhere.get_or_create(
        tenant_id=tenant_id,
        image_id=record.id,
        defaults={
            "config": record.config,
            "diff_ids": list(record.diff_ids),
            "chain_ids": list(record.chain_ids),
            "layer_bytes": list(record.layer_bytes),
            "size_bytes": record.size_bytes,
            "created": record.created,
        },
    )
    if not made and len(row.layer_bytes) < len(record.layer_bytes):
        row.layer_bytes = list(record.layer_bytes)
        row.save(update_fields=["layer_bytes"])
        made = True
    if made:
        changed(tenant_id)
        if tenant_id is not None:
            charged.added(row)
    return row


def point(image: Image, ref: str, *, time_ns: int = 0) -> bool:
    """``ref`` names this image from now on, whatever it named before. Whether that is news. ``time_ns``: the host's, 0 is now."""
    tag = Tag.everywhere.filter(tenant_id=image.tenant_id, ref=ref).first()
    _stamp([image.pk, *([tag.image_id] if tag else [])], time_ns)
    if tag is not None and tag.image_id == image.pk:
        return False
    if tag is None:
        tag = Tag(tenant_id=image.tenant_id, ref=ref)
    tag.image = image
    tag.save()
    changed(image.tenant_id)
    return True


def _stamp(images: Iterable[int], time_ns: int) -> None:
    moment = time_ns or time.time_ns()
    Image.everywhere.filter(pk__in=list(images), told_ns__lt=moment).update(told_ns=moment)


def mirror(tenant_id: int | None, record: ImageRecord, refs: Iterable[str], *, time_ns: int) -> None:
    """As the host said at ``time_ns``: this image is there and has exactly these names. Older than what is known: no news."""
    if not Image.everywhere.filter(tenant_id=tenant_id, image_id=record.id).exists() and _was_deleted(tenant_id, record.id, time_ns):
        return
    row = put(tenant_id, record)
    if row.told_ns > time_ns:
        return
    _stamp([row.pk], time_ns)
    wanted = set(refs)
    for ref in sorted(wanted):
        point(row, ref, time_ns=time_ns)
    if Tag.everywhere.filter(image=row).exclude(ref__in=wanted).delete()[0]:
        changed(tenant_id)


def _was_deleted(tenant_id: int | None, image_id: str, since_ns: int) -> bool:
    told = Event.everywhere.filter(tenant_id=tenant_id, type="image", action="delete", actor_id=image_id, time_ns__gt=since_ns)
    return told.exists()


def unpoint(tenant_id: int | None, refs: Iterable[str]) -> None:
    tags = Tag.everywhere.filter(tenant_id=tenant_id, ref__in=list(refs))
    _stamp(tags.values_list("image_id", flat=True), 0)
    if tags.delete()[0]:
        changed(tenant_id)


def drop(tenant_id: int | None, image_ids: Iterable[str], *, time_ns: int = 0) -> None:
    """``time_ns``: when the host said that they are gone; of one that came back since, it is old news. 0: it is true now."""
    rows = Image.everywhere.filter(tenant_id=tenant_id, image_id__in=list(image_ids))
    if time_ns:
        rows = rows.filter(told_ns__lte=time_ns)
    if rows.delete()[0]:
        changed(tenant_id)


def tell(tenant_id: int | None, action: str, image_id: str, name: str) -> None:
    """Docker's image event, with the image's labels while it is there; what happens to public images is no tenant's event."""
    if tenant_id is None:
        return
    mine_or_public = Q(tenant_id=tenant_id) | Q(tenant=None)
    config = Image.everywhere.filter(mine_or_public, image_id=image_id).values_list("config", flat=True).first() or {}
    labels = (config.get("config") or {}).get("Labels") or {}
    log.write(tenant_id, "image", action, image_id, {**labels, "name": name})


def changed(tenant_id: int | None) -> None:
    live.on_commit({"kind": "image", "tenant": tenant_id or live.EVERYONE})


def remind(tenant_id: int | None) -> None:
    """For an answer that found its change written already, by another process whose word of it may be under way: read again."""
    live.remind({"kind": "image", "tenant": tenant_id or live.EVERYONE}, None)


def record_from(data: dict[str, Any]) -> ImageRecord:
    """From the JSON of a host's message."""
    return codec.from_json(ImageRecord, data)
