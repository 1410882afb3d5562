"""``--change`` of ``docker import`` and ``docker commit``: the Dockerfile instructions that only touch an image's config.

Exec form is a JSON array; anything else is shell form, run by /bin/sh -c. Words may be quoted as in a Dockerfile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import InvalidArgument
from engine.model.image import merge_env
from engine.model.signals import signal_number

Config = dict[str, Any]


def apply_changes(changes: Sequence[str], config: Config | None = None) -> Config:
    """A new config with every change applied, in order. InvalidArgument for one that is none."""
    new: Config = dict(config or {})
    has_cmd = False
    for change in changes:
        for line in change.replace("\\\n", " ").splitlines():
            if line := line.strip():
                _apply(new, line)
                word = line.partition(" ")[0].upper()
                has_cmd = has_cmd or word == "CMD"
                if word == "ENTRYPOINT" and not has_cmd:
                    new.pop("Cmd", None)  # it was meant for another program
    return new


def _apply(config: Config, line: str) -> None:
    word, _blank, rest = line.partition(" ")
    instruction = _INSTRUCTIONS.get(word.upper())
    if instruction is None:
        raise InvalidArgument(f"{word} is not a valid change command")
    rest = rest.strip()
    if not rest and word.upper() not in ("CMD", "ENTRYPOINT"):
        raise InvalidArgument(f"{word.upper()} requires at least one argument")
    instruction(config, rest)


def _array(text: str) -> list[str] | None:
    """The exec form, or None when it is not one."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _command(text: str) -> list[str]:
    array = _array(text)
    return array if array is not None else ["/bin/sh", "-c", text]


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _env(config: Config, text: str) -> None:
    pairs = _pairs(text, "ENV")
    config["Env"] = merge_env(config.get("Env") or [], [f"{name}={value}" for name, value in pairs.items()])


def _label(config: Config, text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_pairs(text, "LABEL")}


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in _words(text):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", word.lower())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not match or not 0 < first <= last < 65536:
            raise InvalidArgument(f"invalid containerPort: {word}")
        for port in range(first, last + 1):
            ports[f"{port}/{match[3] or 'tcp'}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: Config, text: str) -> None:
    array = _array(text)
    volumes = array if array is not None else _words(text)
    if not all(volume.strip() for volume in volumes):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{volume.strip(): {} for volume in volumes}}


def _user(config: Config, text: str) -> None:
    config["User"] = _one(text, "USER")


def _workdir(config: Config, text: str) -> None:
    path = _one(text, "WORKDIR")
    config["WorkingDir"] = path if path.startswith("/") else f"{(config.get('WorkingDir') or '').rstrip('/')}/{path}"


def _stop_signal(config: Config, text: str) -> None:
    name = _one(text, "STOPSIGNAL")
    signal_number(name)
    config["StopSignal"] = name


def _on_build(config: Config, text: str) -> None:
    if text.split(" ", 1)[0].upper() in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidArgument(f"{text.split(' ', 1)[0].upper()} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _shell(config: Config, text: str) -> None:
    array = _array(text)
    if not array:
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")
    config["Shell"] = array


def _health_check(config: Config, text: str) -> None:
    """``NONE``, or flags and then ``CMD`` with a command in either form."""
    flags, rest = _flags(text)
    word, _blank, command = rest.partition(" ")
    if word.upper() == "NONE":
        if command.strip():
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if word.upper() != "CMD":
        raise InvalidArgument(f'Unknown type "{word}" in HEALTHCHECK (try CMD)')
    command = command.strip()
    if not command:
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    array = _array(command)
    check: Config = {"Test": ["CMD", *array] if array is not None else ["CMD-SHELL", command]}
    for flag, value in flags.items():
        if flag in _DURATIONS:
            check[_DURATIONS[flag]] = _duration_ns(flag, value)
        elif flag == "retries" and value.isdecimal():
            check["Retries"] = int(value)
        else:
            raise InvalidArgument(f"Unknown flag or bad value in HEALTHCHECK: --{flag}={value}")
    config["Healthcheck"] = check


_DURATIONS = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval"}
_UNITS_NS = {"h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _flags(text: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while text.startswith("--"):
        word, _blank, text = text.partition(" ")
        name, _equals, value = word[2:].partition("=")
        flags[name], text = value, text.lstrip()
    return flags, text


def _duration_ns(flag: str, text: str) -> int:
    """Go's time.ParseDuration, without signs: 1m30s, 1.5h. Docker takes nothing between 0 and a millisecond."""
    parts = re.findall(r"(\d+(?:\.\d*)?)(h|ms|m|us|ns|s)", text)
    if "".join(number + unit for number, unit in parts) != text or not text:
        raise InvalidArgument(f'time: invalid duration "{text}"')
    total = int(sum(float(number) * _UNITS_NS[unit] for number, unit in parts))
    if 0 < total < 10**6:
        raise InvalidArgument(f'Interval "{flag}" cannot be less than 1ms')
    return total


_INSTRUCTIONS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "LABEL": _label, "EXPOSE": _expose, "VOLUME": _volume, "USER": _user,
    "WORKDIR": _workdir, "STOPSIGNAL": _stop_signal, "ONBUILD": _on_build, "HEALTHCHECK": _health_check, "SHELL": _shell,
}  # fmt: skip


def _one(text: str, instruction: str) -> str:
    words = _words(text)
    if len(words) != 1:
        raise InvalidArgument(f"{instruction} requires exactly one argument")
    return words[0]


def _pairs(text: str, instruction: str) -> dict[str, str]:
    """NAME=value NAME="a value" …, or the old form with one blank: NAME the whole rest."""
    words = _words(text)
    if words and "=" not in words[0]:
        name, _blank, value = text.partition(" ")
        if not value:
            raise InvalidArgument(f"{instruction} must have two arguments")
        return {name: value.strip()}
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        if not name:
            raise InvalidArgument(f"{instruction} names can not be blank")
        pairs[name] = value
    return pairs


def _words(text: str) -> list[str]:
    """Split at blanks outside of quotes; a backslash keeps the next character, except in single quotes."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if quote:
            if character == quote:
                quote = ""
            elif character == "\\" and quote == '"':
                word = (word or "") + next(characters, "")
            else:
                word = (word or "") + character
        elif character in "\"'":
            quote, word = character, word or ""
        elif character.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + (next(characters, "") if character == "\\" else character)
    if word is not None:
        words.append(word)
    return words
