"""Docker's JSON bodies by Go's rules: names match without regard to case, null is "not given", types are strict.

A schema is a dict from member names, in moby's order, to kinds. ``decode`` answers with the members that were given, in
their proper spelling; ``complete`` adds what moby would show for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import orjson

from engine.errors import InvalidArgument

Kind = Callable[[Any, str], Any]
_NAMES: Final[dict[type, str]] = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def _wrong(value: Any, path: str, go_type: str) -> InvalidArgument:
    """A path ends in a member, or in the index of an item, which Go words otherwise."""
    where = path if path.rpartition(".")[2].isdigit() else f"Go struct field {path}" if path else "Go value"
    what = _NAMES.get(type(value), "value")
    if isinstance(value, float) or (go_type.startswith("uint") and type(value) is int):
        what += f" {value}"  # a number, but none of these
    return InvalidArgument(f"invalid JSON: json: cannot unmarshal {what} into {where} of type {go_type}")


def string(value: Any, path: str, go_type: str = "string") -> str:
    if not isinstance(value, str):
        raise _wrong(value, path, go_type)
    return value


def mode(go_type: str) -> Kind:
    """A string that has a type of its own in moby."""
    return lambda value, path: string(value, path, go_type)


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, path, "bool")
    return value


def integer(value: Any, path: str, go_type: str = "int64") -> int:
    """A 64-bit one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(value, path, go_type)
    if not -(2**63) <= value < 2**63:
        raise InvalidArgument(f"invalid JSON: json: cannot unmarshal number {value} into Go struct field {path} of type {go_type}")
    return value


def plain_integer(value: Any, path: str) -> int:
    """moby's ``int``: the same, by another name."""
    return integer(value, path, "int")


def unsigned(go_type: str, bits: int) -> Kind:
    def kind(value: Any, path: str) -> int:
        if not 0 <= integer(value, path, go_type) < 1 << bits:
            raise _wrong(value, path, go_type)
        return int(value)

    return kind


def strings(value: Any, path: str) -> list[str]:
    if not isinstance(value, list):
        raise _wrong(value, path, "[]string")
    return [string(item if item is not None else "", path) for item in value]


def words(value: Any, path: str) -> list[str]:
    """moby's strslice: a list, or one string that stands for a list of one. null within a list is an empty word."""
    if isinstance(value, str):
        return [value]
    return [string(item if item is not None else "", "") for item in (value if isinstance(value, list) else [value])]


def string_map(value: Any, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _wrong(value, path, "map[string]string")
    return {name: string(item if item is not None else "", path) for name, item in value.items()}


def name_set(value: Any, path: str) -> dict[str, dict[str, Any]]:
    """{"80/tcp": {}}: a set in Go's clothes."""
    if not isinstance(value, dict):
        raise _wrong(value, path, "nat.PortSet" if path.endswith("ExposedPorts") else "map[string]struct {}")
    return {name: {} for name in value}


def anything(value: Any, path: str) -> Any:
    return value


def objects(list_type: str, item_type: str) -> Kind:
    def kind(value: Any, path: str) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise _wrong(value, path, list_type)
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise _wrong(item, f"{path}.{index}", item_type)
        return value

    return kind


def object_map(go_type: str) -> Callable[[Any, str], dict[str, Any]]:
    def kind(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(value, path, go_type)
        return value

    return kind


def port_map(value: Any, path: str) -> dict[str, list[dict[str, str]] | None]:
    """nat.PortMap. A slash within a name is written ~1 in a path."""
    found: dict[str, list[dict[str, str]] | None] = {}
    for port, bindings in object_map("nat.PortMap")(value, path).items():
        place = f"{path}.{port.replace('/', '~1')}"
        items = objects("[]nat.PortBinding", "nat.PortBinding")(bindings if bindings is not None else [], place)
        found[port] = None if bindings is None else [_port_binding(item, f"{place}.{index}") for index, item in enumerate(items)]
    return found


def _port_binding(item: dict[str, Any], path: str) -> dict[str, str]:
    return {"HostIp": "", "HostPort": "", **decode({"HostIp": string, "HostPort": string}, item, path, "nat.PortBinding")}


def size(value: Any, path: str) -> list[int]:
    """[height, width]"""
    if not isinstance(value, list):
        raise _wrong(value, path, "[2]uint")
    side = unsigned("uint", 64)
    return [side(item, f"{path}.{index}") for index, item in enumerate((*value, 0, 0)[:2])]


def struct(members: Mapping[str, Kind], go_type: str) -> Kind:
    def kind(value: Any, path: str) -> dict[str, Any]:
        return decode(members, value, path, go_type)

    return kind


def parse(body: bytes) -> Any:
    """The one JSON value of a request body, with moby's sentences."""
    text = body.strip()
    if not text:
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.pos >= len(text.decode(errors="replace")):
            raise InvalidArgument("invalid JSON: unexpected EOF") from None
        if "trailing" in error.msg or "unexpected content after" in error.msg:
            raise InvalidArgument("unexpected content after JSON") from None
        raise InvalidArgument(f"invalid JSON: {error.msg}") from None


def decode(members: Mapping[str, Kind], value: Any, path: str = "", go_type: str = "struct") -> dict[str, Any]:
    """What was given, checked. Unknown members are ignored, as moby does."""
    if not isinstance(value, dict):
        raise _wrong(value, path if "." in path else "", go_type)  # the name of a body stands before its members only
    spelling = _spelling(tuple(members))
    given: dict[str, Any] = {}
    for name, item in value.items():
        proper = name if name in members else spelling.get(name.lower())
        if proper is not None and item is not None:
            given[proper] = members[proper](item, f"{path}.{proper}")
    return given


@cache
def _spelling(names: tuple[str, ...]) -> dict[str, str]:
    return {name.lower(): name for name in names}


def complete(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """All members in moby's order; those not given as moby shows them. Members beyond ``defaults`` come last."""
    out = {name: given.get(name, default) for name, default in defaults.items()}
    out.update({name: value for name, value in given.items() if name not in defaults})
    return out
