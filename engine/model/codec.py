"""Frozen dataclasses to JSON-able dicts and back: how every record of engine.model travels and persists.

Unknown members are ignored and missing ones take their default, so that an older and a newer part understand each other;
a member of another type than its field's is refused, so no record holds what its reader does not expect.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_json(record: Any) -> Any:
    """Plain dicts, lists or tuples, strings and numbers."""
    return msgspec.to_builtins(record)


def from_json(kind: type[T], data: Any) -> T:
    """The record of type ``kind`` that ``to_json`` wrote. ValueError names the member that does not fit."""
    return msgspec.convert(data, kind)
