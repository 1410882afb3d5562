r""".dockerignore: which paths of a context stay out, by the rules of moby's patternmatcher.

    *  any text within a name     **  any number of folders, or none     [a-c] [^a]  one of these characters, none of these
    ?  one character of a name    \*  the character itself              !pattern    back in again

Each pattern is anchored at the context's root; what matches a folder matches all below it; the last line that applies wins.
Time is linear in the path for patterns whose ``**`` stand alone between slashes (every one that people write), and length of
pattern × length of path for the others: no pattern makes a path expensive.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument

NAME: Final = ".dockerignore"
MAX_BYTES: Final = 1024 * 1024
MAX_PATTERNS: Final = 10_000
_SPACE: Final = " \t\r\n\v\f\x85\xa0"


def ignore_file_of(dockerfile: str) -> str:
    """``docker/web.Dockerfile`` → ``docker/web.Dockerfile.dockerignore``: where it is there, it counts instead of .dockerignore."""
    return f"{dockerfile}.dockerignore"


def read_patterns(data: bytes, name: str = NAME) -> list[str]:
    """The lines of an ignore file, cleaned. InvalidArgument: too large."""
    if len(data) > MAX_BYTES:
        raise InvalidArgument(f"error reading {name}: it is greater than the max allowed size of {MAX_BYTES} bytes")
    found = []
    for line in data.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape").split("\n"):
        if line.startswith("#") or not (pattern := line.strip(_SPACE)):
            continue
        mark, pattern = ("!", pattern[1:].strip(_SPACE)) if pattern[0] == "!" else ("", pattern)
        if pattern:
            pattern = posixpath.normpath(pattern)
            while len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        found.append(mark + pattern)
    if len(found) > MAX_PATTERNS:
        raise InvalidArgument(f"error reading {name}: it has more than {MAX_PATTERNS} patterns")
    return found


class Matcher:
    """``Matcher(read_patterns(data)).excludes("a/b")``. InvalidArgument for a pattern that is none. Not for several threads."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = tuple(rule for text in patterns if (rule := _rule(text)))
        self.has_exceptions = any(rule.is_exception for rule in self._rules)
        self._folders: dict[str, tuple[bool, int]] = {"": (False, 0)}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def excludes(self, path: str) -> bool:
        """Whether ``path`` ("a/b", no slash at either end) stays out, looking at it and at the folders above it."""
        return self._judge(path)[0] if path else False

    def _judge(self, path: str) -> tuple[bool, int]:
        """The answer, and as bits which patterns match ``path`` or a folder above it. A walk asks top-down, as moby's does."""
        missing = [path]
        while (parent := posixpath.dirname(missing[-1])) not in self._folders:
            missing.append(parent)
        for folder in reversed(missing[1:]):
            self._folders[folder] = self._applied(folder)
        return self._applied(path)

    def _applied(self, path: str) -> tuple[bool, int]:
        above = self._folders[posixpath.dirname(path)][1]
        is_out, bits = False, 0
        for index, rule in enumerate(self._rules):
            if not above >> index & 1 and (rule.is_exception != is_out or not rule.pattern.matches(path)):
                continue
            bits |= 1 << index
            is_out = not rule.is_exception
        return is_out, bits


def left_out(paths: Sequence[tuple[str, bool]], matcher: Matcher) -> set[str]:
    """Of (path, is a folder) those that stay out; a folder stays when something in it does."""
    out = {path for path, _is_folder in paths if matcher.excludes(path)}
    if not matcher.has_exceptions:
        return out
    needed: set[str] = set()
    for path, _is_folder in paths:
        if path not in out:
            parent = posixpath.dirname(path)
            while parent and parent not in needed:
                needed.add(parent)
                parent = posixpath.dirname(parent)
    return out - needed


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: Pattern
    is_exception: bool


def _rule(text: str) -> _Rule | None:
    text = text.strip(_SPACE)
    if not text:
        return None
    text = posixpath.normpath(text)
    if text == "!":
        raise InvalidArgument('illegal exclusion pattern: "!"')
    is_exception = text.startswith("!")
    return _Rule(compile_pattern(text[1:] if is_exception else text), is_exception)


class Pattern:
    """One pattern; also those of COPY --exclude."""

    __slots__ = ("_end", "_expression", "_start", "_text", "_tokens")

    def __init__(self, text: str) -> None:
        self._text: str | None = None
        self._start: str | None = None
        self._end: str | None = None
        self._expression: re.Pattern[str] | None = None
        self._tokens: list[Token] = []
        special = set("*?[]\\") & set(text)
        if not special:
            self._text = text
        elif text.endswith("**") and not set("*?[]\\") & set(text[:-2]):
            self._start = text[:-2]
        elif text.startswith("**") and not set("*?[]\\") & set(text[2:]) and len(text) > 2:
            self._end = text[2:]
        else:
            self._compile(text)

    def _compile(self, text: str) -> None:
        tokens = _tokens(text)
        blocks = _blocks(tokens)
        if blocks is None:
            self._tokens = tokens
        else:
            self._expression = re.compile(_expression(blocks), re.DOTALL)

    def matches(self, path: str) -> bool:
        """The whole of ``path``; not the folders above it."""
        if self._text is not None:
            return path == self._text
        if self._start is not None:
            return path.startswith(self._start)
        if self._end is not None:
            return path.endswith(self._end) or (self._end[0] == "/" and path == self._end[1:])
        if self._expression is not None:
            return self._expression.match(path) is not None
        return _simulate(self._tokens, path)


# A token is ("text", char) · ("class", expression) · ("?", "") · ("*", "") · ("**", "": folders or nothing) · ("***", "": the rest)
Token = tuple[str, str]
_CHARACTER: Final = ("text", "class", "?")


def compile_pattern(text: str) -> Pattern:
    """InvalidArgument: ``syntax error in pattern``."""
    return Pattern(text)


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        char = text[at]
        if text.startswith("**", at):
            at += 2
            at += text.startswith("/", at)
            tokens.append(("***" if at >= len(text) else "**", ""))
            continue
        if char == "[":
            expression, at = _class(text, at + 1)
            tokens.append(("class", expression))
            continue
        if char == "\\":
            at += 1
            if at == len(text):
                raise InvalidArgument("syntax error in pattern")
            tokens.append(("text", text[at]))
        elif char in "*?":
            tokens.append((char, ""))
        else:
            tokens.append(("text", char))
        at += 1
    return tokens


def _class(text: str, at: int) -> tuple[str, int]:
    """``a-c]`` behind a bracket → an expression of one character, and where it ends."""
    negated = text.startswith("^", at)
    at += negated
    parts: list[str] = []
    while True:
        if text.startswith("]", at) and parts:
            inside = "".join(parts)
            return (f"[^{inside}/]" if negated else f"(?!/)[{inside}]"), at + 1
        low, at = _member(text, at)
        high = low
        if text.startswith("-", at):
            high, at = _member(text, at + 1)
        if low > high:
            raise InvalidArgument("syntax error in pattern")
        parts.append(re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}")


def _member(text: str, at: int) -> tuple[str, int]:
    if text.startswith("\\", at):
        at += 1
    elif text[at : at + 1] in ("-", "]"):
        raise InvalidArgument("syntax error in pattern")
    if at >= len(text):
        raise InvalidArgument("syntax error in pattern")
    return text[at], at + 1


def _blocks(tokens: Sequence[Token]) -> list[list[Token]] | None:
    """What stands between the ``**``, or None when one of them does not stand alone between slashes."""
    blocks: list[list[Token]] = [[]]
    for index, token in enumerate(tokens):
        if token[0] in ("**", "***"):
            if index and tokens[index - 1] != ("text", "/") and tokens[index - 1][0] != "**":
                return None
            blocks.append([])
        else:
            blocks[-1].append(token)
    return blocks


def _expression(blocks: Sequence[Sequence[Token]]) -> str:
    """Every block between two ``**`` at its first place: a later one could reach nothing more, so nothing is tried twice."""
    first, *rest = blocks
    pieces = [expression_of(first)]
    for index, block in enumerate(rest):
        is_last = index == len(rest) - 1
        if is_last and not block:
            pieces.append(".*")  # what ends with **
        elif is_last:
            pieces.append(f"(?:.*/)?{expression_of(block)}")
        elif block:
            pieces.append(f"(?>(?:[^/]*+/)*?{expression_of(block)})")
    return f"(?s:{''.join(pieces)})\\Z"


def expression_of(tokens: Sequence[Token]) -> str:
    """Names without ``**`` as a regular expression that never tries a place twice.

    Text of known length behind a ``*`` is taken at its first place, but for the last in a name, which ends where the name does.
    """
    pieces: list[str] = []
    fixed: list[str] = []
    has_star = False

    def settle(*, at_end: bool) -> None:
        nonlocal has_star
        text = "".join(fixed)
        if not has_star:
            pieces.append(text)
        elif at_end:
            pieces.append(f"[^/]*{text}")
        else:
            pieces.append(f"(?>[^/]*?{text})")
        fixed.clear()
        has_star = False

    for kind, value in tokens:
        if kind == "*":
            if fixed or not has_star:
                settle(at_end=False)
            has_star = True
        elif (kind, value) == ("text", "/"):
            settle(at_end=True)
            pieces.append("/")
        else:
            fixed.append("[^/]" if kind == "?" else re.escape(value) if kind == "text" else value)
    settle(at_end=True)
    return "".join(pieces)


def _simulate(tokens: Sequence[Token], path: str) -> bool:
    """All ways at once: bit n is set when the first n steps match what has been read."""
    steps = [step for kind, value in tokens for step in ((("skip", ""), ("**", "")) if kind == "**" else ((kind, value),))]
    single = [
        re.compile("[^/]" if kind == "?" else re.escape(value) if kind == "text" else value) if kind in _CHARACTER else None
        for kind, value in steps
    ]
    states = _closed(1, steps)
    for position, char in enumerate(path):
        after = 0
        for index, (kind, _value) in enumerate(steps):
            here = 1 << index
            if not states & here:
                continue
            expression = single[index]
            if expression is not None:
                after |= here << 1 if expression.match(path, position) else 0
            elif kind == "*":
                after |= here if char != "/" else 0
            elif kind == "**":
                after |= here | (here << 1 if char == "/" else 0)
            elif kind == "***":
                after |= here
        states = _closed(after, steps)
    return bool(states >> len(steps) & 1)


def _closed(states: int, steps: Sequence[Token]) -> int:
    """With the states that need no character: a star matches nothing, and folders may be skipped."""
    for index, (kind, _value) in enumerate(steps):
        if states >> index & 1:
            if kind in ("*", "***"):
                states |= 2 << index
            elif kind == "skip":
                states |= 6 << index
    return states
