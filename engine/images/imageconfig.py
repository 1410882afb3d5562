"""The config of an image: its types are checked once, here, before anybody relies on them. image-spec 1.1 config.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from engine.errors import InvalidArgument

MAX_VALUES = 250_000  # of one document
MAX_BYTES = 4 << 20  # of a config: the panel keeps them all in memory
_DIFF_ID = re.compile(r"sha256:[0-9a-f]{64}")


def parse_json(data: bytes, what: str) -> Any:
    """Any JSON value, or InvalidArgument that names ``what``."""
    if values_at_most(data) > MAX_VALUES:
        raise InvalidArgument(f"{what} has more than {MAX_VALUES} values, the limit of this host")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not JSON: {str(error)[:200]}") from None


def values_at_most(data: bytes) -> int:
    """A bound of how many values a JSON text has, without reading it: each but the first stands behind one of these."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def parse_document(data: bytes, what: str) -> dict[str, Any]:
    document = parse_json(data, what)
    if not isinstance(document, dict):
        raise InvalidArgument(f"{what} is not a JSON object")
    return document


def parse_config(data: bytes) -> dict[str, Any]:
    """Members that nobody here knows are kept as they are."""
    if len(data) > MAX_BYTES:
        raise InvalidArgument(f"the image config is larger than {MAX_BYTES} bytes, the limit of this host")
    config = parse_document(data, "the image config")
    if config.get("os", "linux") not in ("linux", ""):
        raise InvalidArgument(f"cannot load {config['os']} image on linux")
    rootfs = config.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        raise InvalidArgument('invalid image config: rootfs.type must be "layers"')
    diff_ids = rootfs.setdefault("diff_ids", []) or []
    if not _texts(diff_ids) or not all(_DIFF_ID.fullmatch(each) for each in diff_ids):
        raise InvalidArgument("invalid image config: rootfs.diff_ids must be sha256 digests")
    _check(config, _IMAGE, "")
    if config.get("config") is None:
        config["config"] = {}
    for name in ("Cmd", "Entrypoint"):
        if isinstance(config["config"].get(name), str):  # written by very old tools
            config["config"][name] = [config["config"][name]]
    _check(config["config"], _CONFIG, "config.")
    return config


def _check(members: dict[str, Any], types: dict[str, Callable[[Any], bool]], prefix: str) -> None:
    for name, fits in types.items():
        value = members.get(name)
        if value is not None and not fits(value):
            raise InvalidArgument(f"invalid image config: {prefix}{name} has the wrong type")


def _text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(_text(item) for item in value)


def _labels(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(item) for item in value.values())


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


_IMAGE: dict[str, Callable[[Any], bool]] = {
    "architecture": _text, "os": _text, "variant": _text, "created": _text, "author": _text, "config": _object, "history": _objects,
}  # fmt: skip
_CONFIG: dict[str, Callable[[Any], bool]] = {
    "User": _text, "WorkingDir": _text, "StopSignal": _text, "Env": _texts, "Cmd": _texts, "Entrypoint": _texts, "Shell": _texts,
    "OnBuild": _texts, "Labels": _labels, "ExposedPorts": _object, "Volumes": _object, "Healthcheck": _object,
}  # fmt: skip
