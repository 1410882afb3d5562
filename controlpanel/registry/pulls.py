"""How often what is pulled, and when last: counted in memory, and written every few seconds, so that a pull writes no row. A process that
is killed has not told its last seconds; that is all there is to lose."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from django.db.models import F
from django.utils import timezone

from controlpanel.base import database
from controlpanel.registry.models import Manifest, Tag

LATER_S: Final = 3.0

_manifests: Counter[int] = Counter()
_tags: Counter[int] = Counter()
_writing: set[asyncio.Task[None]] = set()


def count(manifest_id: int, tag_id: int) -> None:
    """``tag_id`` 0: it was asked for by its digest."""
    _manifests[manifest_id] += 1
    if tag_id:
        _tags[tag_id] += 1
    if not _writing:
        task = asyncio.get_running_loop().create_task(_write_later())
        _writing.add(task)
        task.add_done_callback(_writing.discard)


async def _write_later() -> None:
    while _manifests:
        await asyncio.sleep(LATER_S)
        counted = _manifests.copy(), _tags.copy()
        _manifests.clear()
        _tags.clear()
        await database.run(_write, *counted)


def _write(manifests: Counter[int], tags: Counter[int]) -> None:
    now = timezone.now()
    for counted, rows in ((manifests, Manifest.everywhere), (tags, Tag.objects)):
        for number, pulls in counted.items():
            rows.filter(pk=number).update(pulls=F("pulls") + pulls, pulled_at=now)
