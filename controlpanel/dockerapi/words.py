"""Query words as moby reads them: booleans, numbers, times, filters. What is wrong is InvalidArgument, never a 500."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import orjson

from engine.errors import InvalidArgument

Filters = dict[str, list[str]]

_FALSE: Final = frozenset({"", "0", "no", "false", "none"})
_QUANTIFIERS = re.compile(r"[*+?{]")
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_SECONDS = re.compile(r"([+-]?[0-9]{1,40})(?:\.([0-9]+))?\Z")
_DURATION_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_UNITS_NS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_LAST_SECOND: Final = 9_223_372_035  # in nanoseconds it still fits into 64 bits
_EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


def boolean(text: str) -> bool:
    """Everything but "", 0, no, false and none is true (moby's httputils)."""
    return text.strip().lower() not in _FALSE


def integer(text: str) -> int:
    """Of 32 bits: nothing we count is greater."""
    if not _INTEGER.match(text):
        raise InvalidArgument(f'strconv.Atoi: parsing "{text[:40]}": invalid syntax')
    value = int(text[:20])
    if not -(2**31) <= value < 2**31:
        raise InvalidArgument(f'strconv.Atoi: parsing "{text[:40]}": value out of range')
    return value


def time_ns(text: str) -> int:
    """Unix seconds with an optional fraction, or RFC 3339, in nanoseconds; 0 for nothing. Beyond the year 2262: that year."""
    if text in ("", "0"):
        return 0
    found = _SECONDS.match(text)
    if found:
        fraction = (found[2] or "")[:9].ljust(9, "0")
        seconds = max(-_LAST_SECOND, min(int(found[1]), _LAST_SECOND))
        return seconds * 1_000_000_000 + (int(fraction) if seconds >= 0 else -int(fraction))
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(f'strconv.ParseInt: parsing "{text[:40]}": invalid syntax') from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    since = moment - _EPOCH
    seconds = max(-_LAST_SECOND, min(since.days * 86400 + since.seconds, _LAST_SECOND))
    return seconds * 1_000_000_000 + since.microseconds * 1000


def moment_ns(text: str, now_ns: int) -> int:
    """As ``time_ns``, and Go's durations (10m, 1h30m), which count back from now."""
    parts = _DURATION_PART.findall(text.removeprefix("-"))
    if parts and "".join(number + unit for number, unit in parts) == text.removeprefix("-"):
        back_ns = int(sum(Decimal(number) * _UNITS_NS[unit] for number, unit in parts))
        return max(1, now_ns + back_ns if text.startswith("-") else now_ns - back_ns)
    try:
        return time_ns(text)
    except InvalidArgument:
        raise InvalidArgument(f'failed to parse value as time or duration: "{text[:40]}"') from None


def filters(text: str, known: Sequence[str] | Mapping[str, object] | None) -> Filters:
    """The ``filters`` parameter: {"name": ["value", …]}, or the older {"name": {"value": true}}. ``known`` None: any names."""
    if not text:
        return {}
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidArgument("invalid filter") from None
    if not isinstance(given, dict):
        raise InvalidArgument("invalid filter")
    out: Filters = {}
    for name, values in given.items():
        if known is not None and name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")
        if isinstance(values, dict):
            values = [value for value, wanted in values.items() if wanted]
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidArgument("invalid filter")
        out[name] = values
    return out


def one_boolean(given: Filters, name: str, default: bool) -> bool:
    """A filter that is itself a boolean: dangling=true."""
    values = given.get(name)
    if not values:
        return default
    if len(values) == 1 and values[0] in ("1", "true"):
        return True
    if len(values) == 1 and values[0] in ("0", "false"):
        return False
    raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")


def labels_match(wanted: Sequence[str], labels: Mapping[str, str]) -> bool:
    """Each of ``name`` or ``name=value`` must be there."""
    for item in wanted:
        name, equals, value = item.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def pattern(name: str, text: str) -> re.Pattern[str]:
    """A regular expression, as in moby; but ours can be made to backtrack for hours, so only simple ones are taken."""
    if len(text) > 300 or len(_QUANTIFIERS.findall(text)) > 3 or re.search(r"\)[*+?{]", text):
        raise InvalidArgument(f"invalid filter '{name}={text[:40]}': the expression is too complicated")
    try:
        return re.compile(text, re.ASCII)
    except re.error as error:
        raise InvalidArgument(f"invalid filter '{name}={text}': {error}") from None


def rfc3339(ns: int) -> str:
    """As Go prints times: nanoseconds without trailing zeros, Z. The zero time for 0."""
    if not ns:
        return "0001-01-01T00:00:00Z"
    seconds, fraction = divmod(ns, 1_000_000_000)
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def human_duration(seconds: float) -> str:
    """go-units.HumanDuration: the largest unit, rounded down as docker shows it."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"
