"""Bytes → logical lines: byte-order mark, directives, comments, continuations, heredoc bodies.

A comment is a line whose first character (after white space) is ``#``, inside a continued line too. A continuation takes away
the escape and the line end and nothing else: what follows keeps its leading blanks. Bodies of heredocs are read raw.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from engine.builds.dockerfile import shell
from engine.builds.dockerfile.model import Directives, DockerfileError, Heredoc
from engine.builds.dockerfile.words import SPACE

MAX_FILE: Final = 1024 * 1024
MAX_LINE: Final = 65535  # of one line of the file, its end not counted; a continued one may be longer
_DIRECTIVE: Final = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=(.*)", re.DOTALL)
_KNOWN: Final = ("syntax", "escape", "check")
_HEREDOC: Final = re.compile(r"([0-9]*)<<(-?)\s*([^<]*)")
_TABS: Final = re.compile(rb"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line. ``has_empty``: an empty line stood within it."""

    text: str
    first: int
    last: int
    has_empty: bool


class Lines:
    """The lines of a file, one after the other. DockerfileError: too long, or directives that contradict each other."""

    def __init__(self, data: bytes, name: str) -> None:
        if not data:
            raise DockerfileError(f"the Dockerfile ({name}) cannot be empty", line=0)
        if len(data) > MAX_FILE:
            raise DockerfileError(f"the Dockerfile ({name}) is greater than the max allowed size of {MAX_FILE} bytes", line=0)
        self._lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        self._ends_open = self._lines[-1] != b""  # the last line has no line end
        if not self._ends_open:
            self._lines.pop()
        self._next = 0
        self.directives = self._read_directives()
        self._continued = re.compile(rf"(?:^|(?<=[^{re.escape(self.directives.escape)}])){re.escape(self.directives.escape)}[ \t]*\Z")

    @property
    def number(self) -> int:
        """Of the line read last, from 1."""
        return self._next

    def read(self) -> Line | None:
        """The next logical line that says something, or None at the end."""
        while (raw := self._raw()) is not None:
            first = self._next
            text, goes_on = self._joined(_text(raw).lstrip(SPACE))
            if text.startswith("#") or (not goes_on and not text):
                continue
            pieces, has_empty = [text], False
            while goes_on and (raw := self._raw()) is not None:
                piece = _text(raw)
                if piece.lstrip(SPACE).startswith("#"):
                    continue
                if not piece.strip(SPACE):
                    has_empty = True
                    continue
                piece, goes_on = self._joined(piece)
                pieces.append(piece)
            return Line("".join(pieces), first, self._next, has_empty)
        return None

    def document(self, heredoc: Heredoc, first: int) -> Heredoc:
        """The same one with the lines that follow, up to its name."""
        end, body = heredoc.name.encode(errors="replace"), list[bytes]()
        while (raw := self._raw()) is not None:
            line = raw.rstrip(b"\r")
            if (line.lstrip(b"\t") if heredoc.chomp else line) == end:
                return replace(heredoc, content=b"".join(body))
            body.append(raw + (b"" if self._ends_open and self._next == len(self._lines) else b"\n"))
        raise DockerfileError(f"dockerfile parse error on line {first}: unterminated heredoc", line=first)

    def _raw(self) -> bytes | None:
        if self._next == len(self._lines):
            return None
        raw = self._lines[self._next]
        self._next += 1
        if len(raw) > MAX_LINE:
            raise DockerfileError(
                f"dockerfile parse error on line {self._next}: dockerfile line greater than max allowed size of {MAX_LINE}", line=self._next
            )
        return raw

    def _joined(self, text: str) -> tuple[str, bool]:
        """Without the escape at the end, and whether there was one."""
        found = self._continued.search(text)
        return (text[: found.start()], True) if found and not text.startswith("#") else (text, False)

    def _read_directives(self) -> Directives:
        found: dict[str, str] = {}
        for number, raw in enumerate(self._lines, 1):
            match = _DIRECTIVE.fullmatch(_text(raw[:MAX_LINE]).strip(SPACE))
            if not match or (key := match[1].lower()) not in _KNOWN or not (value := match[2].lstrip(SPACE)):
                break
            if key in found:
                raise _wrong(number, f"only one {key} parser directive can be used")
            if key == "escape" and value not in ("`", "\\"):
                raise _wrong(number, f"invalid escape token '{value[:100]}' does not match ` or \\")
            found[key] = value
        return Directives(**found)


def heredocs_of(line: str) -> list[Heredoc]:
    """The heredocs that a line announces, in order, their bodies still missing."""
    try:
        words = shell.split_raw(line)
    except DockerfileError:  # a quotation that the shell may understand otherwise
        return []
    return [heredoc for word in words if "<<" in word and (heredoc := heredoc_of(word))]


def heredoc_of(word: str) -> Heredoc | None:
    """``<<EOF``, ``3<<-"EOF"``: what it announces, or None when it is another word."""
    found = _HEREDOC.fullmatch(word)
    if not found or not found[3]:
        return None
    try:
        plain, raw = shell.unquoted(found[3], keep_quotes=False), shell.unquoted(found[3], keep_quotes=True)
    except DockerfileError:
        return None
    if len(plain) != 1 or len(raw) != 1:
        return None
    marks = sum(plain[0].count(mark) != raw[0].count(mark) for mark in "'\"")
    descriptor = int(found[1]) if 0 < len(found[1]) < 10 else 0
    return Heredoc(name=plain[0], content=b"", expand=not marks, chomp=found[2] == "-", descriptor=descriptor)


def without_tabs(content: bytes) -> bytes:
    """A body of ``<<-``: without the tabs each line begins with."""
    return _TABS.sub(b"", content)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\r").decode(errors="replace")


def _wrong(number: int, sentence: str) -> DockerfileError:
    return DockerfileError(f"dockerfile parse error on line {number}: {sentence}", line=number)
