"""How many bytes of log a tenant's containers have on the disk: counted where they lie, so it is right after every rotation and removal."""

from __future__ import annotations

import os
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import NotFound
from engine.records import Records


def log_bytes(config: EngineConfig, tenant: str) -> dict[str, int]:
    """{container id: bytes of data and index} of every container that has any."""
    records, found = Records(config), {}
    for number in records.ids():
        try:
            records.spec(number, tenant=tenant)
        except NotFound:
            continue  # another tenant's, or removed meanwhile
        if size := _size(config.container(number) / "log"):
            found[number] = size
    return found


def _size(folder: Path) -> int:
    total = 0
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0  # removed meanwhile
    for entry in entries:
        try:
            total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            pass  # rotated away
    return total
