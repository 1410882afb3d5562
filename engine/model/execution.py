"""A command that runs in a container beside its first process: what was asked, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InvalidArgument
from engine.model.container import is_container_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """``env`` is laid over the container's own; "" for ``cwd`` and ``user`` means the container's. Streams that nobody wants are
    /dev/null; with ``tty`` there is one terminal for all three."""

    id: str  # 64 hex digits, made up by whoever asks
    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # NAME=value
    cwd: str = ""
    user: str = ""
    tty: bool = False
    console_size: tuple[int, ...] = ()  # rows and columns of a terminal to begin with
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    quiet: bool = False  # of the platform's own (a health check): nobody is told, and no record stays


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecState:
    """What is. ``run`` is the container's run that it belongs to."""

    id: str
    container_id: str
    run: int
    pid: int  # on the host, also when it has ended
    running: bool = True
    exit_code: int = 0  # 128 + n for signal n; 137 also when nobody saw how it ended
    started_at_ns: int = 0  # unix time
    finished_at_ns: int = 0


def check_exec(spec: ExecSpec) -> None:
    """What the engine does not take on trust from a message. ``exit_code`` in the detail: what dockerd's client exits with."""
    if not is_container_id(spec.id):
        raise InvalidArgument(f"invalid exec id {spec.id!r}: 64 hex digits are needed")
    if not spec.args or (not spec.args[0] and len(spec.args) == 1):
        raise InvalidArgument("No exec command specified")
    if any("\0" in text for text in (*spec.args, *spec.env, spec.cwd, spec.user)):
        raise InvalidArgument("a command, variable, folder or user holds a zero byte")
    if spec.cwd and not spec.cwd.startswith("/"):
        raise InvalidArgument("OCI runtime exec failed: exec failed: Cwd must be an absolute path", exit_code=128)
    if spec.console_size and (len(spec.console_size) != 2 or not all(0 <= size < 1 << 16 for size in spec.console_size)):
        raise InvalidArgument("a console size is rows and columns, each below 65536")
