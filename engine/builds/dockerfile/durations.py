"""Go's durations: ``1m30s``, ``1.5h``, ``300ms`` → nanoseconds."""

from __future__ import annotations

import re
from typing import Final

from engine.builds.dockerfile.words import quoted

_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART: Final = re.compile(r"(\d*)(?:\.(\d*))?([^\d.]*)")
_MOST: Final = 2**63 - 1
_SHOWN_LENGTH: Final = 100


def read_duration(text: str) -> int:
    """ValueError in Go's words; a negative one is allowed here."""
    shown, sign, rest = quoted(text), 1, text
    if rest[:1] in ("-", "+") and rest:
        sign, rest = (-1 if rest[0] == "-" else 1), rest[1:]
    if rest == "0":
        return 0
    if not rest or len(rest) > _SHOWN_LENGTH:
        raise ValueError(f"time: invalid duration {shown}")
    total = 0
    while rest:
        found = _PART.match(rest)
        assert found is not None
        whole, fraction, unit = found[1], found[2] or "", found[3]
        if not (whole or fraction) or not (whole + fraction).isascii():
            raise ValueError(f"time: invalid duration {shown}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {shown}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quoted(unit)} in duration {shown}")
        total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
        rest = rest[found.end() :]
    if total > _MOST:
        raise ValueError(f"time: invalid duration {shown}")
    return sign * total
