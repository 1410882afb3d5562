"""Removing what was renamed into the trash, beside the work: a container's files may be many."""

from __future__ import annotations

import threading
from pathlib import Path

from engine import disk

_lock = threading.Lock()
_sweepers: dict[Path, threading.Thread] = {}
_again: set[Path] = set()


def sweep_soon(trash: Path) -> None:
    """Empties the trash in a background thread. Returns at once; what a dying process leaves, the next sweep takes."""
    with _lock:
        _again.add(trash)
        if trash not in _sweepers:
            _sweepers[trash] = threading.Thread(target=_sweep, args=(trash,), name="trash", daemon=True)
            _sweepers[trash].start()


def _sweep(trash: Path) -> None:
    while True:
        with _lock:
            if trash not in _again:
                del _sweepers[trash]
                return
            _again.discard(trash)
        try:
            disk.empty_trash(trash)
        except OSError:
            pass  # another process sweeps too: what it took is gone
