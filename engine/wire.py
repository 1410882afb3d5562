"""JSON as bytes: in files, between the parts, in answers. orjson, and the standard library where that knows more."""

from __future__ import annotations

import json
from typing import Any, Final

try:
    import orjson
except ImportError:  # keeper and launcher, which stay small (-S), and doctor before the first ``up``: the standard library alone
    orjson = None  # type: ignore[assignment]

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder each time


def encode(value: Any) -> bytes:
    """UTF-8 without spaces. What is no text (file names have any bytes: lone surrogates, PEP 383) is escaped as ``json`` does it."""
    if orjson is not None:
        try:
            return orjson.dumps(value)
        except TypeError:
            pass
    return _encode(value).encode()


def decode(data: bytes | str) -> Any:
    """Raises ValueError for what is no JSON."""
    if orjson is not None:
        try:
            return orjson.loads(data)
        except ValueError:
            pass
    return json.loads(data)
