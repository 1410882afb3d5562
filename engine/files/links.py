"""A path with its links followed by hand, inside of whatever tree they are looked up in: no name leads out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.errors import InvalidArgument

MAX_LINKS: Final = 255  # of one path, before it counts as a loop


def follow(path: str, link: Callable[[str], str | None]) -> str:
    """``path`` relative to the tree's root ("" for that), every link followed; ``link`` says what one holds, None for all else. What is
    not there is kept as it is. InvalidArgument for a loop."""
    parts = path.split("/")[::-1]
    found: list[str] = []
    links = 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del found[-1:]
            continue
        found.append(part)
        target = link("/".join(found))
        if target is None:
            continue
        links += 1
        if links > MAX_LINKS:
            raise InvalidArgument(f"too many links in {path}")
        found = [] if target.startswith("/") else found[:-1]
        parts += reversed(target.split("/"))
    return "/".join(found)
