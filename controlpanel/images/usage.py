"""What images weigh. Layers are shared: each counts once in a sum, and is told as shared when more than one image has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from controlpanel.images.projection import ImageView


def layers(view: ImageView) -> list[tuple[str, int]]:
    """(chain id, bytes), base first. Of an image whose layers nobody counted all is at the last one."""
    record = view.record
    sizes = record.layer_bytes
    if len(sizes) != len(record.chain_ids):
        sizes = tuple(0 for _chain in record.chain_ids[:-1]) + ((record.size_bytes,) if record.chain_ids else ())
    return list(zip(record.chain_ids, sizes, strict=True))


def total(views: Iterable[ImageView]) -> int:
    """Bytes of all their layers, each once."""
    return sum({chain: size for view in views for chain, size in layers(view)}.values())


def shared(views: Sequence[ImageView]) -> dict[str, int]:
    """Image id → bytes of those of its layers that another of ``views`` has as well."""
    users = Counter(chain for view in views for chain in set(view.record.chain_ids))
    return {view.id: sum(size for chain, size in layers(view) if users[chain] > 1) for view in views}


def freed(views: Sequence[ImageView], gone: Sequence[ImageView]) -> int:
    """How many bytes fewer there would be without those of ``gone``."""
    left = {view.id for view in gone}
    return total(views) - total(view for view in views if view.id not in left)
