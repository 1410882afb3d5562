"""``RUN --mount=type=…,key=value,…``: a line of comma-separated values, its fields quoted as in CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from engine.builds.dockerfile.model import Mount
from engine.builds.dockerfile.words import quoted, with_guess

TYPES: Final = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING: Final = ("shared", "private", "locked")
_KEYS: Final = (
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw", "id", "sharing", "required",
    "size", "mode", "uid", "gid", "env",
)  # fmt: skip
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")
_FALSE: Final = ("0", "f", "F", "false", "FALSE", "False")
_SIZE: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,9}))?\s*(?:([kmgtp])i?b?|b)?", re.IGNORECASE)
_FIELD: Final = re.compile(r'"((?:[^"]|"")*+)"(?=,|\Z)|([^",]*+)(?=,|\Z)')


def check_mount(text: str) -> None:
    """What can be wrong before variables are known. ValueError."""
    if "$" not in text:
        read_mount(text)
        return
    for key, value in _pairs(text):
        if key not in _KEYS:
            raise ValueError(_unknown_key(key, value))
        if key == "from" and value and "$" in value:
            raise ValueError(f"'{key}' doesn't support variable expansion, define alias stage instead")


def read_mount(text: str, expand: Callable[[str], str] = str) -> Mount:
    """The mount that is meant, ``expand`` applied to each value. ValueError with moby's sentence."""
    said: dict[str, Any] = {}
    kind = "bind"
    for key, raw in _pairs(text):
        value = expand(raw) if raw is not None else None
        if key == "type" and value is not None:
            kind = value.lower()
            if kind not in TYPES:
                raise ValueError(with_guess(f"unsupported mount type {quoted(value)}", value, TYPES))
        else:
            _set(said, key, value, kind, f"{key}={raw}" if raw is not None else key)
    _check(said, kind)
    said.setdefault("is_read_only", kind not in ("cache", "tmpfs"))
    return Mount(type=kind, **said)


def _pairs(text: str) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in ("readonly", "ro", "readwrite", "rw", "required"):
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
        pairs.append((key, value if equals else None))
    return pairs


def _fields(text: str) -> list[str]:
    if not text:
        raise ValueError("failed to parse csv mounts: EOF")
    fields: list[str] = []
    at = 0
    while at <= len(text):
        found = _FIELD.match(text, at)
        if not found:
            raise ValueError(f'failed to parse csv mounts: parse error on line 1, column {at + 1}: bare or unclosed " in a field')
        fields.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        at = found.end() + 1
    return fields


def _set(said: dict[str, Any], key: str, value: str | None, kind: str, field: str) -> None:
    match key:
        case "from":
            said["from_"] = value
        case "source" | "src":
            said["source"] = value
        case "target" | "dst" | "destination":
            said["target"] = value
        case "readonly" | "ro":
            said["is_read_only"] = _bool(key, value)
        case "readwrite" | "rw":
            said["is_read_only"] = not _bool(key, value)
        case "required":
            if kind not in ("secret", "ssh"):
                raise ValueError(f"unexpected key '{key}' for mount type '{kind}'")
            said["is_required"] = _bool(key, value)
        case "id":
            said["id"] = value
        case "env":
            said["env"] = value
        case "sharing":
            if str(value).lower() not in _SHARING:
                raise ValueError(f"unsupported sharing value {quoted(str(value))}")
            said["sharing"] = str(value).lower()
        case "size":
            said["size_bytes"] = _size(key, str(value))
        case "mode":
            said["mode"] = _number(key, str(value), 8)
        case "uid" | "gid":
            said[key] = _number(key, str(value), 10)
        case _:
            raise ValueError(_unknown_key(key, field.partition("=")[2]))


def _check(said: dict[str, Any], kind: str) -> None:
    for key in ("mode", "uid", "gid"):
        if key in said and kind not in ("secret", "ssh", "cache"):
            raise ValueError(f"{key} not allowed for {quoted(kind)} type mounts")
    if "size_bytes" in said and kind != "tmpfs":
        raise ValueError(f"unexpected key 'size' for mount type '{kind}'")
    if "env" in said and kind != "secret":
        raise ValueError(f"unexpected key 'env' for mount type '{kind}'")
    if said.get("sharing") and kind != "cache":
        raise ValueError(f"invalid cache sharing set for {kind} mount")
    if kind == "secret":
        if said.get("from_"):
            raise ValueError("secret mount should not have a from")
        if not said.get("source") and not said.get("target") and not said.get("id"):
            raise ValueError("invalid secret mount. one of source, target required")
        if said.get("source") and said.get("id"):
            raise ValueError("both source and id can't be set")


def _bool(key: str, value: str | None) -> bool:
    if value is None or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError(f"invalid value for {key}: {value}")


def _number(key: str, value: str, base: int) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 12 or (base == 8 and set(value) & set("89")):
        raise ValueError(f"invalid value {value} for {key}")
    number = int(value, base)
    if number >= 1 << 32:
        raise ValueError(f"invalid value {value} for {key}")
    return number


def _size(key: str, value: str) -> int:
    found = _SIZE.fullmatch(value.strip())
    if not found:
        raise ValueError(f"invalid value for {key}: {value}")
    factor = 1 << 10 * ("kmgtp".index(found[3].lower()) + 1) if found[3] else 1
    size = int(found[1]) * factor + int((found[2] or "0").ljust(9, "0")) * factor // 10**9
    if size >= 1 << 63:
        raise ValueError(f"invalid value for {key}: {value}")
    return size


def _unknown_key(key: str, value: str | None) -> str:
    return with_guess(f"unexpected key '{key}' in '{key}={value or ''}'", key, _KEYS)


def mount_source(text: str) -> str:
    """What ``from=`` says in a mount that has been checked, or ""."""
    return next((value for key, value in _pairs(text) if key == "from" and value), "")
