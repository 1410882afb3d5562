"""Sizes, CPUs and durations as people type them."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from engine.errors import InvalidArgument

_SIZE: Final = re.compile(r"^(\d+(?:\.\d+)?) ?([kmgt]?)i?b?$", re.IGNORECASE | re.ASCII)
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LIFETIME: Final = re.compile(r"^(\d{1,9})([smhdw])$", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST_S: Final = 100 * 366 * 86400


def parse_bytes(text: str) -> int:
    """``512m``, ``1.5g``, ``1073741824``: powers of 1024, as Docker reads them."""
    found = _SIZE.match(text.strip())
    if not found:
        raise InvalidArgument(f"invalid size: '{text}'")
    return int(Decimal(found[1]) * 1024 ** _POWER[found[2].lower()])


def parse_nano_cpus(text: str) -> int:
    """``1.5`` CPUs in billionths."""
    try:
        cpus = Decimal(text)
    except InvalidOperation:
        cpus = Decimal(-1)
    if not cpus.is_finite() or cpus < 0 or cpus > 1_000_000:
        raise InvalidArgument(f"invalid number of CPUs: '{text}'")
    return int(cpus * 1_000_000_000)


def parse_count(text: str) -> int:
    """``12``; the caller says whether it may be negative."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
        raise InvalidArgument(f"invalid number: '{text}'")
    return int(text)


def parse_lifetime(text: str) -> timedelta | None:
    """``30d``, ``12h``, ``90m``, ``45s``, ``2w``; empty = for ever."""
    if not text:
        return None
    found = _LIFETIME.match(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST_S:
        raise InvalidArgument(f"invalid duration '{text}': say 30d, 12h, 90m or 45s, or leave it out for no end")
    return timedelta(seconds=seconds)


def show_bytes(count: int) -> str:
    """``512 MiB``; whole numbers stay whole."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f}".removesuffix(".0") + f" {units[0]}"
