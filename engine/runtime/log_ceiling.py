"""How many bytes of log a tenant may have on the disk, with all its containers: beyond that its oldest segments go.

Counted where they lie, each time that a sixteenth of the limit was written since: so it holds to a sixteenth, also after rotations,
removals and kills, and costs nobody anything who writes little. The logger's, which alone writes segments.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from engine import disk
from engine.config import EngineConfig
from engine.model.container import is_container_id
from engine.runtime.segments import END, LogWriter, segment_numbers

DEFAULT: Final = 16 << 30
_PART: Final = 16
_EMPTY: Final = 4096  # bytes: what a segment of marks alone has at most


@dataclass(frozen=True, slots=True, order=True)
class _Old:
    """In the order in which they go. ``written_ns``: never before that of the container's segment before."""

    written_ns: int
    container: str
    number: int
    size: int
    is_last: bool


class LogCeiling:
    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._until_look: dict[str, int] = {}  # tenant → bytes

    def take(self, tenant: str, moved: int, renew: Callable[[str], bool]) -> None:
        """``moved`` bytes were written. ``renew``: begins a new segment of a container whose writer is open, else is False."""
        left = self._until_look.get(tenant, 0) - moved
        if left <= 0:
            limit = self._limit(tenant)
            self._trim(tenant, limit, renew)
            left = limit // _PART
        self._until_look[tenant] = left

    def _limit(self, tenant: str) -> int:
        """The ceiling's, or the tenant's quota when that is less. Read as plain JSON: their own modules would cost the keeper two MiB."""
        ceiling = disk.read_json(self._config.ceilings / f"{tenant}.json") or {}
        quota = disk.read_json(self._config.tenants / f"{tenant}.json") or {}
        highest = int(ceiling.get("log_size") or DEFAULT)
        return min(highest, int(quota.get("log_bytes") or highest))

    def _trim(self, tenant: str, limit: int, renew: Callable[[str], bool]) -> None:
        found = [segment for container in self._containers(tenant) for segment in self._segments(container)]
        total = sum(segment.size for segment in found)
        for segment in sorted(found) if total > limit else ():
            if total <= limit - limit // _PART:
                return
            if segment.size <= _EMPTY:
                continue
            folder = str(self._config.container(segment.container) / "log")
            with suppress(OSError):  # removed meanwhile
                if segment.is_last and not renew(segment.container):
                    _renew(folder)
                for kind in ("idx", "data"):
                    os.unlink(f"{folder}/{segment.number}.{kind}")
            total -= segment.size

    def _containers(self, tenant: str) -> list[str]:
        found = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._config.names / tenant):
                with suppress(OSError), open(entry.path) as file:
                    found.append(file.read())
        return [container for container in found if is_container_id(container)]

    def _segments(self, container: str) -> list[_Old]:
        folder, found, written = str(self._config.container(container) / "log"), [], 0
        numbers = segment_numbers(folder)
        for number in numbers:
            size = 0
            for kind in ("idx", "data"):
                with suppress(FileNotFoundError):
                    status = os.stat(f"{folder}/{number}.{kind}")
                    size, written = size + status.st_size, max(written, status.st_mtime_ns)
            found.append(_Old(written, container, number, size, number == numbers[-1]))
        return found


def _renew(folder: str) -> None:
    """Of a container that writes no more: an empty segment, which says so."""
    writer = LogWriter(folder, max_size_bytes=1 << 62, max_files=1 << 30)
    try:
        mark, run = writer.mark, writer.marked_run
        writer.renew(time.time_ns())
        if mark == END:
            writer.end(run, time.time_ns())
    finally:
        writer.close()
