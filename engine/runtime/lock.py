"""The lock of a run folder: foster and keeper hold it for life, so there is one pair, and whoever stops it knows when both are gone."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from engine.config import EngineConfig

PATIENCE_S: Final = 0.2  # longer than anybody looks
_RETRY_EVERY_S: Final = 0.01


def path(config: EngineConfig) -> Path:
    return config.run / "foster.lock"


def take(config: EngineConfig) -> int | None:
    """The descriptor that holds it; None when another pair has it. flock(2)."""
    fd = os.open(path(config), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
        time.sleep(_RETRY_EVERY_S)  # somebody may just be looking


def is_held(config: EngineConfig) -> bool:
    """Whether a foster or a keeper lives, also while neither answers."""
    try:
        fd = os.open(path(config), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
