"""HostConfig.LogConfig → LogPolicy, with moby's rules and sentences. PURE.

Output is kept in our own segments whichever of Docker's file drivers is named. A tenant's log never grows without end: the platform's
own limits hold where none were named, and none exceeds them. ``mode`` changes nothing: what a container writes goes straight from
its pipe into the file, so that neither blocking nor dropping ever comes up; ``compress`` neither.
"""

from __future__ import annotations

import re
from typing import Final

from controlpanel.base.units import parse_bytes
from controlpanel.containers.fields import Object, string_map, text
from engine.errors import InvalidArgument, Unsupported
from engine.model.container import LogPolicy
from engine.model.log_details import check_tag

DEFAULT: Final = LogPolicy()
ALL_BYTES: Final = DEFAULT.max_size_bytes * DEFAULT.max_files
UNKEPT: Final = LogPolicy(max_size_bytes=16 << 20, max_files=4, driver="none")  # enough for clients that are attached to read behind
_EVERY: Final = frozenset({"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"})
_COMMON: Final = frozenset({"mode", "max-buffer-size"})
_FILES: Final = {"json-file": 1, "local": 5}  # dockerd's, where a size is given and no number
_MODES: Final = ("", "blocking", "non-blocking")
_BOOLEANS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_OTHERS: Final = ("awslogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog", "etwlogs")


def read(log_config: Object) -> LogPolicy:
    driver, options = text(log_config, "Type") or DEFAULT.driver, string_map(log_config, "Config")
    if driver == "none":
        return UNKEPT
    _check_common(options)
    if driver in _OTHERS:
        raise Unsupported(
            f"log driver '{driver}' is not supported: output is kept by the platform (json-file, local), or not at all (none)"
        )
    if driver not in _FILES:
        raise InvalidArgument(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for name in options:
        if name not in _EVERY | _COMMON:
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")
        if name.endswith("-regex"):
            raise Unsupported(f"log opt '{name}' is not supported: list the names with '{name.removesuffix('-regex')}'")
    size, files = _size(options), _files(options, driver)
    if _boolean(options, "compress") and (files == 1 or "max-size" not in options):
        raise InvalidArgument("compress cannot be true when max-file is less than 2 or max-size is not set")
    return LogPolicy(
        max_size_bytes=size,
        max_files=min(files, max(1, ALL_BYTES // size)),
        driver=driver,
        labels=_names(options, "labels"),
        env=_names(options, "env"),
        tag=check_tag(options.get("tag", "")),
    )


def _check_common(options: dict[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in _MODES:
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        if _bytes(options["max-buffer-size"]) is None:
            raise InvalidArgument(f"error parsing option max-buffer-size: invalid size: '{options['max-buffer-size']}'")


def _size(options: dict[str, str]) -> int:
    """-1, unlimited, is the platform's own limit, too."""
    words = options.get("max-size", "-1")
    if words == "-1":
        return DEFAULT.max_size_bytes
    size = _bytes(words)
    if size is None:
        raise InvalidArgument(f"invalid size: '{words}'")
    if size <= 0:
        raise InvalidArgument("max-size must be a positive number")
    return min(size, DEFAULT.max_size_bytes)


def _files(options: dict[str, str], driver: str) -> int:
    """Without ``max-size`` it has no say, as in dockerd: there is nothing to rotate by."""
    words, sized = options.get("max-file"), options.get("max-size", "-1") != "-1"
    if words is None:
        return _FILES[driver] if sized else DEFAULT.max_files
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", words):
        raise InvalidArgument(f'strconv.Atoi: parsing "{words[:40]}": invalid syntax')
    if int(words) < 1:
        raise InvalidArgument("max-file cannot be less than 1")
    return int(words) if sized else DEFAULT.max_files


def _bytes(words: str) -> int | None:
    try:
        return parse_bytes(words)
    except InvalidArgument:
        return None


def _boolean(options: dict[str, str], name: str) -> bool:
    words = options.get(name, "false")
    if words.lower() not in _BOOLEANS:
        raise InvalidArgument(f'strconv.ParseBool: parsing "{words[:40]}": invalid syntax')
    return _BOOLEANS[words.lower()]


def _names(options: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(filter(None, options.get(name, "").split(",")))
