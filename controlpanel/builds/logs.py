"""What a build said, as text: <panel>/builds/<build id>.log. One writer, any number of readers, gone with its row."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from django.conf import settings

MAX_BYTES: Final = 8 << 20  # of one log; what comes after is dropped, and said so
_CUT: Final = b"\n[the log of this build is cut here: it is longer than 8 MiB]\n"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


def folder() -> Path:
    return Path(settings.PANEL_DIR) / "builds"


def path_of(build_id: str) -> Path:
    return folder() / f"{build_id}.log"


class LogWriter:
    """For one build. ``close`` it."""

    def __init__(self, build_id: str) -> None:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path_of(build_id), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0

    def write(self, line: dict[str, Any]) -> None:
        """One of Docker's lines. Progress bars are left out: they are for eyes that watch."""
        if "progressDetail" in line and line.get("progressDetail"):
            return
        text = line.get("stream") or line.get("error") or ""
        if not text and line.get("status"):
            text = f"{line['id'] + ': ' if line.get('id') else ''}{line['status']}\n"
        data = _COLOUR.sub("", str(text)).encode(errors="replace")
        if not data or self._size >= MAX_BYTES:
            return
        if self._size + len(data) > MAX_BYTES:
            data = data[: MAX_BYTES - self._size] + _CUT
        os.write(self._fd, data)
        self._size += len(data)

    def close(self) -> None:
        os.close(self._fd)


def read(build_id: str, offset: int = 0, limit: int = 1 << 20) -> bytes:
    """From ``offset`` bytes on; empty at the end, and when there is none."""
    try:
        with path_of(build_id).open("rb") as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""


def remove(build_id: str) -> None:
    path_of(build_id).unlink(missing_ok=True)
