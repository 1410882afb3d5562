"""Which ports of a host a tenant may publish, in words: "" is all, "none" is none, else ranges like 8000-8999,30000. PURE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.errors import InvalidArgument

NONE: Final = "none"
ALL: Final = ((1, 65535),)
Ranges = tuple[tuple[int, int], ...]


def parse(words: str) -> Ranges:
    """First and last port of each range."""
    if not words.strip():
        return ALL
    if words.strip() == NONE:
        return ()
    return tuple(_range(word.strip()) for word in words.split(","))


def _range(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in (first, last if dash else first)):
        raise InvalidArgument(f'invalid host ports "{word}": write ranges like 8000-8999,30000, or none')
    bounds = int(first), int(last if dash else first)
    if not 1 <= bounds[0] <= bounds[1] <= 65535:
        raise InvalidArgument(f'invalid host ports "{word}": ports are from 1 to 65535')
    return bounds


def holds(ranges: Iterable[tuple[int, int]], first: int, last: int) -> bool:
    """Whether all of first to last lie in one of them."""
    return any(low <= first and last <= high for low, high in ranges)
