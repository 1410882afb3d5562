"""A size where the disk below has project quotas: its folder has a number, and the file system counts and limits."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from engine import disk
from engine.kernel import project_quota

_FIRST: Final = 1 << 24  # numbers that people give by hand are smaller
_LAST: Final = (1 << 31) - 1
_RECORD: Final = "project"


def hold(above: Path) -> bool:
    """Whether they can be had in folders of ``above``."""
    return project_quota.holds(above)


def begin(folder: Path, size: int) -> None:
    """``folder`` is new and empty; all that is made in it counts."""
    while True:
        number = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if project_quota.used(folder, number) == (0, 0):
            break
    project_quota.assign(folder, number)
    project_quota.limit(folder, number, size)
    disk.write_json(folder / _RECORD, number)


def is_one(folder: Path) -> bool:
    return (folder / _RECORD).exists()


def resize(folder: Path, size: int) -> None:
    project_quota.limit(folder, _number(folder), size)


def used(folder: Path) -> int:
    return project_quota.used(folder, _number(folder))[0]


def is_over(folder: Path) -> bool:
    return project_quota.is_over(folder, _number(folder))


def end(folder: Path) -> None:
    """The number is free again when the files are gone."""
    if number := disk.read_json(folder / _RECORD):
        project_quota.limit(folder, int(number), 0)


def exempt(folder: Path) -> None:
    """What is made in this empty folder of it counts for nothing."""
    project_quota.assign(folder, 0)


def _number(folder: Path) -> int:
    return int(disk.read_json(folder / _RECORD) or 0)
