"""Members of a question, of the kind they must have."""

from __future__ import annotations

from typing import Any

from engine.errors import InvalidArgument


def integer(words: dict[str, Any], name: str, default: int) -> int:
    """Absent and null mean the default."""
    value = words.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(f"{name} must be a whole number")
    return value


def text(words: dict[str, Any], name: str) -> str:
    value = words.get(name) or ""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a string")
    return value


def texts(words: dict[str, Any], name: str) -> list[str]:
    value = words.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"{name} must be a list of strings")
    return value
