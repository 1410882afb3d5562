r"""Patterns of ``${x#p}``, ``${x%p}`` and ``${x/p/r}``: ``*`` is any text, ``?`` any character, ``\`` takes their meaning.

A pattern is cut at its stars into segments of known length. The shortest prefix takes each segment at its first place behind
the one before, the longest takes the last segment at its last place: no backtracking, so no pattern takes longer than
length of pattern × length of value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_PATTERN: Final = 1024
_TOKEN: Final = re.compile(r"\\([}/])|\\(.?)|(\*)|(\?)|([^\\*?]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Segment:
    search: Callable[[str, int], int]  # the first place at or behind, or -1
    length: int
    expression: re.Pattern[str]

    def last(self, value: str, lowest: int) -> int:
        """The last place at or behind ``lowest``; there is one."""
        place = len(value) - self.length
        while place > lowest and not self.expression.match(value, place):
            place -= 1
        return place


@dataclass(frozen=True, slots=True)
class Pattern:
    segments: tuple[_Segment, ...]  # between the stars: n stars, n + 1 segments, any may be empty
    source: tuple[tuple[str, str], ...]  # ("*" | "?" | "text", text)

    def prefix(self, value: str, start: int, *, greedy: bool) -> int | None:
        """Where a match that begins at ``start`` ends, or None."""
        at = start
        for index, segment in enumerate(self.segments):
            place = segment.search(value, at)
            if place < 0 or (index == 0 and place != start):
                return None
            if greedy and index and index == len(self.segments) - 1:
                place = segment.last(value, place)
            at = place + segment.length
        return at

    def without_prefix(self, value: str, *, greedy: bool) -> str:
        end = self.prefix(value, 0, greedy=greedy)
        return value if end is None else value[end:]

    def without_suffix(self, value: str, *, greedy: bool) -> str:
        backwards = _assemble(tuple((kind, text[::-1]) for kind, text in reversed(self.source)))
        return backwards.without_prefix(value[::-1], greedy=greedy)[::-1]

    def replaced(self, value: str, replacement: str, *, everywhere: bool, limit: int) -> str | None:
        """The first match, or every one, replaced; None when the result would be longer than ``limit``."""
        pieces: list[str] = []
        at, size, last_end = 0, 0, -1
        while at <= len(value):
            start = self.segments[0].search(value, at)
            end = self.prefix(value, start, greedy=True) if start >= 0 else None
            if end is None:  # what does not match from its first place on matches nowhere behind
                break
            pieces.append(value[at:start])
            if end > start or start != last_end:  # nothing, right behind a match, is none
                pieces.append(replacement)
                size += len(replacement)
            if end == start:
                pieces.append(value[start : start + 1])
                end += 1
            else:
                last_end = end
            at = end
            if size > limit:
                return None
            if not everywhere:
                break
        result = "".join([*pieces, value[at:]])
        return result if len(result) <= limit else None


def compile_pattern(text: str) -> Pattern:
    """ValueError with the reason."""
    if len(text) > MAX_PATTERN:
        raise ValueError(f"longer than {MAX_PATTERN} characters")
    source: list[tuple[str, str]] = []
    for found in _TOKEN.finditer(text):
        kept, escaped, star, mark, plain = found.groups()
        if escaped is not None and (not escaped or escaped not in "*?\\"):
            raise ValueError(f"invalid escape '\\{escaped}'")
        source.append(("*", "") if star else ("?", "?") if mark else ("text", kept or escaped or plain))
    return _assemble(tuple(source))


def _assemble(source: tuple[tuple[str, str], ...]) -> Pattern:
    segments: list[list[tuple[str, str]]] = [[]]
    for kind, text in source:
        if kind == "*":
            segments.append([])
        else:
            segments[-1].append((kind, text))
    return Pattern(tuple(map(_segment, segments)), source)


def _segment(parts: list[tuple[str, str]]) -> _Segment:
    expression = re.compile("".join("." if kind == "?" else re.escape(text) for kind, text in parts), re.DOTALL)
    length = sum(len(text) for _kind, text in parts)

    def search(value: str, at: int) -> int:
        found = expression.search(value, at)
        return found.start() if found else -1

    return _Segment(search, length, expression)
