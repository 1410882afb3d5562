"""The private folder of one load: <engine>/incoming/<random>/, locked for as long as its process works in it.

What lies there is nobody's yet. Chain ids it *pins* are kept by removals meanwhile, because the load found them on the host and
will not unpack them again. A folder whose lock is free belongs to a dead process and goes at the next occasion.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Self

from engine import disk
from engine.config import EngineConfig
from engine.images.trash import sweep_soon
from engine.kernel.spreading import spread


class Staging:
    """A context manager. Make it, pin and ask ``pinned`` under the store's lock only."""

    def __init__(self, config: EngineConfig) -> None:
        self._trash = config.trash
        self.folder = _incoming(config) / secrets.token_hex(8)
        self.folder.mkdir(mode=0o700)
        self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """After an error the room is free again before it is told. Else who waits for the answer need not wait for what is left to go."""
        is_well = not any(error)
        with suppress(OSError):
            if is_well:
                disk.to_trash(self.folder, self._trash)
            else:
                disk.remove_tree(self.folder)
        os.close(self._lock)
        if is_well:
            sweep_soon(self._trash)

    def pin(self, chain_ids: Collection[str]) -> None:
        disk.write_json(self.folder / "pins.json", sorted(chain_ids))


def pinned(config: EngineConfig) -> set[str]:
    """Chain ids that loads under way rely on; what dead loads left goes to the trash."""
    pins: set[str] = set()
    for folder in _incoming(config).iterdir():
        if _is_held(folder):
            pins.update(disk.read_json(folder / "pins.json") or ())
        else:
            disk.to_trash(folder, config.trash)
    return pins


def _incoming(config: EngineConfig) -> Path:
    path = config.engine / "incoming"
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    spread(path)
    return path


def _is_held(folder: Path) -> bool:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # its load has just ended
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
