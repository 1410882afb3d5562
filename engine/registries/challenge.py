"""``WWW-Authenticate``: the ways in that a registry offers. RFC 7235, section 4.1; distribution's token specification. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAMETER: Final = re.compile(r'\s*,?\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX: Final = 16  # challenges and parameters: nobody has more to say


@dataclass(frozen=True, slots=True)
class Challenge:
    """``scheme`` in lower case: basic, bearer."""

    scheme: str
    parameters: dict[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """Of each header's challenges those that can be read; what is no challenge is left out."""
    found: list[Challenge] = []
    for header in headers:
        at = 0
        while len(found) < _MAX and (scheme := _TOKEN.match(header, at)):
            at = scheme.end()
            parameters: dict[str, str] = {}
            while len(parameters) < _MAX and (match := _PARAMETER.match(header, at)):
                quoted, plain = match[2], match[3]
                parameters[match[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                at = match.end()
            found.append(Challenge(scheme[0].lower(), parameters))
            rest = re.compile(r"[\s,]*").match(header, at)
            assert rest is not None
            at = rest.end()
    return found
