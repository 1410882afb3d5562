"""Layers that are being fetched just now, so that two pulls of the same fetch it once: one leads, the others follow.

A key names whose proof counts: possession of a layer is proved by getting its bytes, and what one tenant gets proves nothing for another.
A leader that fails tells its followers, and the first of them leads.
"""

from __future__ import annotations

import threading
from enum import Enum
from pathlib import Path

Key = tuple[str, str, str]  # tenant, chain id, digest as the registry calls it


class Step(Enum):
    FETCHING = 1
    FETCHED = 2  # its bytes are right and unpacked, in the leader's private folder
    ADOPTED = 3  # it is the host's
    FAILED = 4


class Fetch:
    """One layer under way. Its leader tells, its followers wait."""

    def __init__(self, fetches: Fetches, key: Key) -> None:
        self._fetches, self._key = fetches, key
        self._changed = threading.Condition()
        self.step = Step.FETCHING
        self.read_bytes = 0
        self.blob: Path | None = None  # as it came; to be linked before the leader's folder goes
        self.digits = ""  # of its sha256

    def tell(self, read_bytes: int) -> None:
        self.read_bytes = read_bytes

    def move(self, step: Step, blob: Path | None = None) -> None:
        with self._changed:
            if self.step in (Step.ADOPTED, Step.FAILED):
                return
            self.step = step
            self.blob = blob or self.blob
            self._changed.notify_all()
        if step in (Step.ADOPTED, Step.FAILED):
            self._fetches.forget(self._key, self)

    def wait(self, beyond: Step, timeout_s: float) -> Step:
        """The step, at the latest after so long; at once when it is beyond that one already."""
        with self._changed:
            self._changed.wait_for(lambda: self.step.value > beyond.value, timeout_s)
            return self.step


class Fetches:
    """Of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Key, Fetch] = {}

    def join(self, key: Key) -> tuple[Fetch, bool]:
        """The fetch, and whether the caller leads it: then it must move it to an end."""
        with self._lock:
            found = self._under_way.get(key)
            if found is not None:
                return found, False
            self._under_way[key] = fetch = Fetch(self, key)
            return fetch, True

    def forget(self, key: Key, fetch: Fetch) -> None:
        with self._lock:
            if self._under_way.get(key) is fetch:
                del self._under_way[key]
