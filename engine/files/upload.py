"""A client's bytes as a readable: those that came with its question first, then its blocking socket's."""

from __future__ import annotations

import io
import os
from typing import Any


class Upload(io.RawIOBase):
    """``fd`` stays the caller's."""

    def __init__(self, early: bytes, fd: int) -> None:
        self._early, self._fd = early, fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._early:
            count = min(len(buffer), len(self._early))
            buffer[:count], self._early = self._early[:count], self._early[count:]
            return count
        return os.readv(self._fd, [buffer])
