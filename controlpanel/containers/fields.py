"""Reading a client's JSON object: every member has a type, and a wrong one is the client's mistake, said by name. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.errors import InvalidArgument

Object = Mapping[str, Any]

_INT64: Final = 1 << 63
_WORDS: Final = {str: "a string", bool: "true or false", int: "a number", list: "an array", dict: "an object"}


def _wrong(name: str, value: object, kind: type) -> InvalidArgument:
    got = _WORDS.get(type(value), type(value).__name__)
    return InvalidArgument(f"invalid JSON: {name} must be {_WORDS[kind]}, not {got}", field=name)


def text(data: Object, name: str) -> str:
    value = data.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, value, str)
    return value


def flag(data: Object, name: str) -> bool:
    value = data.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _wrong(name, value, bool)
    return value


def integer(data: Object, name: str) -> int:
    """A signed number of 64 bits; absent and null are 0."""
    value = data.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, value, int)
    if not -_INT64 <= value < _INT64:
        raise InvalidArgument(f"invalid JSON: {name} is out of range", field=name)
    return value


def strings(data: Object, name: str) -> list[str]:
    """A list of strings; a single string counts as a list of one (Cmd and Entrypoint may be either)."""
    value = data.get(name)
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _wrong(name, value, list)
    for item in value:
        if not isinstance(item, str):
            raise _wrong(f"each of {name}", item, str)
    return list(value)


def obj(data: Object, name: str) -> dict[str, Any]:
    value = data.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, value, dict)
    return value


def objects(data: Object, name: str) -> list[dict[str, Any]]:
    value = data.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(name, value, list)
    for item in value:
        if not isinstance(item, dict):
            raise _wrong(f"each of {name}", item, dict)
    return value


def string_map(data: Object, name: str) -> dict[str, str]:
    value = obj(data, name)
    for key, item in value.items():
        if not isinstance(item, str):
            raise _wrong(f"{name}[{key}]", item, str)
    return dict(value)
