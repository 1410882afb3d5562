"""Wildcards in the sources of COPY and ADD: Go's filepath.Match, which ``*`` and ``?`` never take across a slash. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from engine.builds.ignore import Token, expression_of


def has_wildcards(path: str) -> bool:
    """A backslash takes a wildcard's meaning, and is passed over with what it stands before."""
    return re.search(r"(?:^|[^\\])(?:\\\\)*[*?\[]", path) is not None


def matches(pattern: str, path: str) -> bool:
    """Of a malformed pattern: no path matches."""
    compiled = _compiled(pattern)
    return compiled is not None and compiled.fullmatch(path) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(_translated(pattern), re.DOTALL)
    except (re.error, IndexError):
        return None


def _translated(pattern: str) -> str:
    """IndexError: it ends within an escape or a class."""
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char in "*?":
            tokens.append((char, ""))
        elif char == "\\":
            tokens.append(("text", pattern[at]))
            at += 1
        elif char == "[":
            piece, at = _class(pattern, at)
            tokens.append(("class", piece))
        else:
            tokens.append(("text", char))
    return expression_of(tokens)


def _class(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern[at] == "^"
    at += negated
    ranges = ""
    while pattern[at] != "]" or not ranges:
        low, at = _one(pattern, at)
        high = low
        if pattern[at] == "-":
            high, at = _one(pattern, at + 1)
        ranges += f"{re.escape(low)}-{re.escape(high)}"
    return (f"(?!/)[^{ranges}]" if negated else f"(?!/)[{ranges}]"), at + 1


def _one(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\":
        at += 1
    return pattern[at], at + 1
