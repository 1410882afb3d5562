"""An image's Config while a Dockerfile changes it, in Docker's spelling, and the image config that each step leaves. Pure.

What moby's classic builder writes, member by member: the comment that stands for an instruction in the history, ``container_config``
with that comment as its command, and the history entry. A step that changes no file is an ``empty_layer``.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from engine.builds.dockerfile import model
from engine.errors import InvalidArgument
from engine.model.platform import host_architecture
from engine.model.signals import signal_number
from engine.spec.generate import PATH

Config = dict[str, Any]

DOCKER_VERSION: Final = "28.5.2"  # whose images these are like
SHELL: Final = ("/bin/sh", "-c")
MAX_CONFIG: Final = 4 << 20  # bytes: words may grow by variables, and every step keeps the history so far
_EMPTY: Final[Config] = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "Tty": False,
    "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None, "Image": "", "Volumes": None, "WorkingDir": "", "Entrypoint": None,
    "OnBuild": None, "Labels": None,
}  # fmt: skip
_ONLY_WHEN_SET: Final = (
    "ExposedPorts",
    "Healthcheck",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "StopSignal",
    "StopTimeout",
    "Shell",
)


def begin(base: Mapping[str, Any] | None) -> Config:
    """The Config at the beginning of a stage: the base image's, with a PATH."""
    given = dict(base or {})
    config: Config = {name: given.get(name) if given.get(name) is not None else default for name, default in _EMPTY.items()}
    config |= {name: given[name] for name in _ONLY_WHEN_SET if given.get(name)}
    config["OpenStdin"] = config["StdinOnce"] = False
    env = list(config["Env"] or [])
    if not any(item.partition("=")[0] == "PATH" for item in env):
        env.append(PATH)
    config["Env"] = env
    return config


def shell_of(config: Config) -> tuple[str, ...]:
    return tuple(config.get("Shell") or SHELL)


def nop(config: Config, comment: str, *, one_word: bool = False) -> list[str]:
    """The command that stands for an instruction which runs nothing; COPY, ADD and WORKDIR have it in one word."""
    return [*shell_of(config), f"#(nop) {comment}"] if one_word else [*shell_of(config), "#(nop) ", comment]


# -- instructions that change the Config alone -------------------------------------------------------


def apply(config: Config, instruction: model.Instruction, *, cmd_is_set: bool) -> str:
    """Changes ``config``; the comment of the history. The words are expanded already. InvalidArgument in moby's words."""
    return _CHANGES[type(instruction)](config, instruction, cmd_is_set)


def _env(config: Config, it: model.Env, _cmd: bool) -> str:
    env = list(config["Env"] or [])
    for name, value in it.pairs:
        place = next((at for at, item in enumerate(env) if item.partition("=")[0] == name), None)
        if place is None:
            env.append(f"{name}={value}")
        else:
            env[place] = f"{name}={value}"
    config["Env"] = env
    return " ".join(["ENV", *(f"{name}={value}" for name, value in it.pairs)])


def _label(config: Config, it: model.Label, _cmd: bool) -> str:
    config["Labels"] = {**(config["Labels"] or {}), **dict(it.pairs)}
    return " ".join(["LABEL", *(f"{name}={value}" for name, value in it.pairs)])


def _maintainer(_config: Config, it: model.Maintainer, _cmd: bool) -> str:
    return f"MAINTAINER {it.name}"


def _cmd(config: Config, it: model.Cmd, _cmd: bool) -> str:
    config["Cmd"] = list(it.command.with_shell(shell_of(config)))
    return f"CMD {quoted(config['Cmd'])}"


def _entrypoint(config: Config, it: model.Entrypoint, cmd_is_set: bool) -> str:
    config["Entrypoint"] = list(it.command.with_shell(shell_of(config)))
    if not cmd_is_set:
        config["Cmd"] = None
    return f"ENTRYPOINT {quoted(config['Entrypoint'])}"


def _expose(config: Config, it: model.Expose, _cmd: bool) -> str:
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in it.ports}}
    return " ".join(["EXPOSE", *it.words])


def _user(config: Config, it: model.User, _cmd: bool) -> str:
    config["User"] = it.user
    return f"USER {it.user}"


def _volume(config: Config, it: model.Volume, _cmd: bool) -> str:
    if "" in it.paths:
        raise InvalidArgument("VOLUME specified can not be an empty string")
    config["Volumes"] = {**(config["Volumes"] or {}), **{path: {} for path in it.paths}}
    return f"VOLUME [{' '.join(it.paths)}]"


def _stop_signal(config: Config, it: model.Stopsignal, _cmd: bool) -> str:
    signal_number(it.signal)
    config["StopSignal"] = it.signal
    return f"STOPSIGNAL {it.signal}"


def _shell(config: Config, it: model.Shell, _cmd: bool) -> str:
    config["Shell"] = list(it.words)
    return f"SHELL [{' '.join(it.words)}]"


def _on_build(config: Config, it: model.Onbuild, _cmd: bool) -> str:
    config["OnBuild"] = [*(config["OnBuild"] or []), it.trigger]
    return f"ONBUILD {it.trigger}"


def _health(config: Config, it: model.Healthcheck, _cmd: bool) -> str:
    check: Config = {"Test": list(it.test)}
    for name, value in (
        ("Interval", it.interval_ns),
        ("Timeout", it.timeout_ns),
        ("StartPeriod", it.start_period_ns),
        ("StartInterval", it.start_interval_ns),
        ("Retries", it.retries),
    ):
        if value:
            check[name] = value
    config["Healthcheck"] = check
    times = " ".join(_go_duration(value) for value in (it.interval_ns, it.timeout_ns, it.start_period_ns, it.start_interval_ns))
    return f"HEALTHCHECK &{{[{' '.join(it.test)}] {times} {it.retries}}}"


def _arg(_config: Config, it: model.Arg, _cmd: bool) -> str:
    return " ".join(["ARG", *(name if value is None else f"{name}={value}" for name, value in it.pairs)])


_CHANGES: Final[dict[type, Callable[[Config, Any, bool], str]]] = {
    model.Env: _env, model.Label: _label, model.Maintainer: _maintainer, model.Cmd: _cmd, model.Entrypoint: _entrypoint,
    model.Expose: _expose, model.User: _user, model.Volume: _volume, model.Stopsignal: _stop_signal, model.Shell: _shell,
    model.Onbuild: _on_build, model.Healthcheck: _health, model.Arg: _arg,
}  # fmt: skip


def workdir(config: Config, path: str) -> str:
    """Changes ``config``; the comment."""
    if not path:
        raise InvalidArgument("cannot normalize nothing")
    whole = path if path.startswith("/") else posixpath.join("/", config["WorkingDir"] or "/", path)
    config["WorkingDir"] = posixpath.normpath("/" + whole.lstrip("/"))
    return f"WORKDIR {config['WorkingDir']}"


def quoted(words: Sequence[str]) -> str:
    """As Go's %q prints a list of strings."""
    return f"[{' '.join(_go_quoted(word) for word in words)}]"


def _go_quoted(text: str) -> str:
    """strconv.Quote: printable characters as they are."""
    out = ['"']
    for char in text:
        if char in _GO_ESCAPES:
            out.append(_GO_ESCAPES[char])
        elif char == " " or char.isprintable():
            out.append(char)
        elif 0xDC80 <= ord(char) <= 0xDCFF:
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return "".join([*out, '"'])


_GO_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def _go_duration(nanoseconds: int) -> str:
    """time.Duration.String: 1h2m3s, 1.5s, 200ms; none is 0s."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 10**9:
        for unit, name in ((10**6, "ms"), (10**3, "µs"), (1, "ns")):
            if nanoseconds >= unit:
                return f"{_decimal(nanoseconds, unit)}{name}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{text}{_decimal(rest, 10**9)}s"


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if unit > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


# -- the image config --------------------------------------------------------------------------------


def child(
    base: Mapping[str, Any],
    config: Config,
    *,
    container_config: Config,
    container: str,
    author: str,
    diff_id: str,
    created: str,
) -> Config:
    """As moby's image.NewChildImage. ``base``: the parent's whole image config, {} for scratch; ``diff_id`` "" = no layer."""
    history: Config = {"created": created, "created_by": " ".join(container_config.get("Cmd") or [])}
    if author:
        history["author"] = author
    if not diff_id:
        history["empty_layer"] = True
    rootfs = base.get("rootfs") or {}
    image: Config = {
        "architecture": base.get("architecture") or host_architecture(),
        "config": dict(config),
        "container_config": dict(container_config),
        "created": created,
        "docker_version": DOCKER_VERSION,
        "history": [*(base.get("history") or []), history],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [*(rootfs.get("diff_ids") or []), *([diff_id] if diff_id else [])]},
    }
    if container:
        image["container"] = container
    if author:
        image["author"] = author
    for name in ("variant", "os.version", "os.features"):
        if base.get(name):
            image[name] = base[name]
    return image


def encoded(image: Config) -> bytes:
    """InvalidArgument: it has grown beyond what may be loaded again."""
    data = json.dumps(image, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogateescape")
    if len(data) > MAX_CONFIG:
        raise InvalidArgument(f"the image config would be larger than {MAX_CONFIG} bytes, the limit of this host")
    return data


def now(epoch_s: int | None = None) -> str:
    """RFC 3339; of SOURCE_DATE_EPOCH when it is given."""
    moment = datetime.now(UTC) if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC)
    return moment.isoformat().replace("+00:00", "Z")
