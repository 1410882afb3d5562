"""What a case of the comparison is, and what of its output is no difference: ids, times, addresses, counts of bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# A container that stays: most cases need one
UP: Final = "docker run -d --name c1 box sleep 600"

_EVERYWHERE: Final = (
    (r"\r\n", "\n"),
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
    (r"/tmp/slipway-conformance-\w+/\d/\w+", "<folder>"),
    (r'(?m)^time="[^"]*" level=error .*\n', ""),  # the client's own log of a copy that was refused, or not: it depends on who is first
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<short>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4}( UTC)?)?", "<time>"),
    (r"(Less than a|About an?|\d+) (second|minute|hour)s?( ago)?", "<ago>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"\b(10|172)(\.\d{1,3}){3}\b", "<ip>"),
    (r" {2,}", "  "),  # columns are as wide as what was masked
    (r" +\n", "\n"),
)
# Masks that a case asks for by name
_NAMED: Final = {
    "size": (r"\b\d+(\.\d+)?\s?([kKMGT]i?)?B\b", "<size>"),
    "number": (r"-?\b\d+(\.\d+)?", "<n>"),
    "name": (r"\b[a-z]+_[a-z]+\b", "<name>"),
    "percent": (r"\d+\.\d+%", "<%>"),
    "lines": (r"(?s).+", "<text>"),
    "public": (r"(?m)^.*\bbusybox\b.*\n", ""),  # an image that every tenant has
    "unix": (r"\b1\d{9}(\.\d+)?\b", "<unix>"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """``command`` is a line or more for sh in an empty folder; ``docker`` speaks to the endpoint, ``api METHOD PATH [JSON]`` prints a
    raw answer and its status. Its standard output, standard error and exit code are compared."""

    name: str
    command: str
    setup: str = ""  # the same, unseen; it must succeed
    stdin: str = ""
    terminal: bool = False  # instead of pipes
    typed: tuple[tuple[str, str], ...] = ()  # at a terminal: (shown, what is typed then), in this order
    masks: tuple[str, ...] = ()  # names of _NAMED, or regular expressions of what doesn't count
    unordered: bool = False  # lines of output may come in any order
    out: str | None = None  # what both must say, masked: checked where there is no reference, too
    code: int | None = None  # likewise
    timeout_s: float = 30


def masked(text: str, case: Case) -> str:
    """``text`` without what may differ between two runs of the same engine."""
    for pattern, replacement in _EVERYWHERE:
        text = re.sub(pattern, replacement, text)
    for mask in case.masks:
        pattern, replacement = _NAMED.get(mask, (mask, "<…>"))
        text = re.sub(pattern, replacement, text)
    if case.unordered:
        text = "".join(sorted(text.splitlines(keepends=True)))
    return text
