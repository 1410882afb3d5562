"""The parts' own logs: append only, rotated by copying and cutting, so that no part needs to reopen its file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 8 << 20
KEPT: Final = 3  # web.log.1 … web.log.3


def open_log(folder: Path, part: str) -> int:
    """O_APPEND: after the cut the writer goes on at the new end. root:slipway 0640 by the folder's set-group-id bit."""
    return os.open(folder / f"{part}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def rotate(folder: Path) -> None:
    """Copies every log that grew past MAX_BYTES aside and cuts it. What is written between the two acts is lost: a line at most, rarely."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > MAX_BYTES:
            for number in range(KEPT - 1, 0, -1):
                older = log.with_name(f"{log.name}.{number}")
                if older.exists():
                    older.rename(log.with_name(f"{log.name}.{number + 1}"))
            shutil.copy2(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
