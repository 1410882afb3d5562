"""``docker builder prune``: takes steps out of a tenant's cache, and with them the layers that no image has."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine import disk
from engine.builds.cache import Entry, StepCache
from engine.errors import InvalidArgument
from engine.images import held, removal
from engine.images.store import ImageStore
from engine.images.trash import sweep_soon

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_FILTERS: Final = ("until", "unused-for", "id", "type", "inuse", "parent", "description", "shared", "private")


def prune(store: ImageStore, tenant: str, filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """{"caches": [keys], "bytes": of their layers}. ``filters``: until and unused-for (a time since the last use), id (the start of a
    key). The others that Docker knows speak of what this cache has not; nothing matches them."""
    for name in filters:
        if name not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
    ages_s = [_seconds(text) for name in ("until", "unused-for") for text in filters.get(name, ())]
    others = [name for name in filters if name not in ("until", "unused-for", "id")]
    latest_ns = time.time_ns() - int(max(ages_s, default=0.0) * 1e9)
    ids = filters.get("id", ())

    def is_wanted(entry: Entry) -> bool:
        return not others and entry.used_ns <= latest_ns and (not ids or any(entry.key.startswith(each) for each in ids))

    with store.lock():
        caches, size = StepCache(store.config, tenant).prune(is_wanted)
        if not filters:
            disk.to_trash(held.folder_of(store.config, tenant) / "mounts", store.config.trash, name=f"mounts.{tenant}")
        removal.collect(store)
    sweep_soon(store.config.trash)
    return {"caches": caches, "bytes": size}


def usage(store: ImageStore, tenant: str) -> list[dict[str, Any]]:
    """Of ``docker system df -v``: {"id", "text", "bytes", "made_ns", "used_ns"} for each step."""
    return [
        {"id": each.key, "text": each.text, "bytes": each.size_bytes, "made_ns": each.made_ns, "used_ns": each.used_ns}
        for each in StepCache(store.config, tenant).entries()
    ]


def _seconds(text: str) -> float:
    """Go's durations."""
    parts = re.findall(r"(\d+(?:\.\d*)?)(h|ms|m|s)", text)
    if not text or "".join(number + unit for number, unit in parts) != text:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
