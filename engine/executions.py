"""exec: commands that run in a container beside its first process. ``Engine.exec`` and ``run`` are the doors.

Whoever asks holds the streams and nobody else: when the asker dies, the command reads end of file and writes into nothing (a
terminal hangs up). How it ended the keeper records, whatever else dies.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import select
import shutil
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from engine import disk, errors
from engine.config import EngineConfig
from engine.model.container import ContainerSpec, Status, is_container_id
from engine.model.execution import ExecSpec, ExecState, check_exec
from engine.model.image import merge_env
from engine.runtime import client
from engine.runtime.exits import LOST
from engine.runtime.kept_execs import exec_folder
from engine.spec.generate import environment

if TYPE_CHECKING:
    from engine.engine import Engine

_CHUNK: Final = 64 << 10
_KEEPER_BACK_S: Final = 10.0  # a killed keeper is back within milliseconds
_ASK_AGAIN_S: Final = 0.02
# What of a container's config makes a process; all else is there already when one joins
_OF_A_PROCESS: Final = ("uidMappings", "gidMappings", "namespaces", "cgroupsPath", "seccomp")


class Execution:
    """One that has executed. ``fds``: pidfd, and stdin, stdout, stderr as far as wanted, or pty; the caller's to close or ``take``."""

    def __init__(self, container_id: str, exec_id: str, pid: int, started_at_ns: int, fds: dict[str, int]) -> None:
        self.container_id, self.id = container_id, exec_id
        self.pid, self.started_at_ns = pid, started_at_ns
        self.fds = fds

    def take(self, name: str) -> int:
        """The descriptor, from now on the caller's."""
        return self.fds.pop(name)

    def kill(self) -> None:
        """SIGKILL to it (not to what it started). Ended already is fine."""
        try:
            signal.pidfd_send_signal(self.fds["pidfd"], signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.popitem()[1])

    def __enter__(self) -> Execution:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def begin(engine: Engine, tenant: str, container_id: str, asked: ExecSpec) -> Execution:
    """Runs it. FailedPrecondition with moby's sentence when the container doesn't run or is paused; of a command that can't be
    executed InvalidArgument, with ``exit_code`` 126 or 127 in the detail. Then nothing is left."""
    check_exec(asked)
    spec = engine.records.spec(container_id, tenant=tenant)
    _check_active(engine, spec)
    config = engine.records.oci_config(container_id)
    try:
        target, pidfd = engine.keeper.join(container_id)
    except errors.NotFound:
        raise _not_running(container_id) from None
    try:
        words = _config(config, spec, asked, cgroup=str(target["cgroup"]))
        wanted = {"stdin": asked.stdin, "stdout": asked.stdout, "stderr": asked.stderr, "quiet": asked.quiet}
        answer, fds = client.join(engine.config, pidfd, id=container_id, exec=asked.id, config=words, **wanted)
    except errors.FailedPrecondition:
        raise _not_running(container_id) from None
    finally:
        os.close(pidfd)
    return Execution(container_id, asked.id, int(answer["pid"]), int(answer["started_at_ns"]), fds)


def _check_active(engine: Engine, spec: ContainerSpec) -> None:
    status = engine.records.state(spec.id).status
    if status is Status.PAUSED:
        raise errors.FailedPrecondition(f"Container {spec.id} is paused, unpause the container before exec")
    if status is Status.RESTARTING:
        raise errors.FailedPrecondition(f"Container {spec.id} is restarting, wait until the container is running")
    if status is not Status.RUNNING:
        raise _not_running(spec.id)


def _not_running(container_id: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(f"container {container_id} is not running")


def _config(config: dict[str, Any], spec: ContainerSpec, asked: ExecSpec, *, cgroup: str) -> dict[str, Any]:
    """The container's own with another process: its capabilities, filter, limits and ids hold for this one too."""
    process = dict(config["process"])
    env = environment(dataclasses.replace(spec, tty=asked.tty))
    process |= {
        "args": list(asked.args),
        "env": merge_env(env, asked.env),
        "cwd": asked.cwd or process["cwd"],
        "terminal": asked.tty,
        "user": {**process["user"], "name": asked.user} if asked.user else process["user"],
    }
    process.pop("consoleSize", None)
    if asked.tty and asked.console_size:
        process["consoleSize"] = {"height": asked.console_size[0], "width": asked.console_size[1]}
    linux = {name: config["linux"][name] for name in _OF_A_PROCESS if name in config["linux"]}
    annotations = {name: value for name, value in config["annotations"].items() if name == "slipway.seccomp"}
    return {"process": process, "linux": {**linux, "cgroupsPath": cgroup}, "annotations": annotations}


# -- ends ----------------------------------------------------------------------------------------


def state(engine: Engine, tenant: str, container_id: str, exec_id: str) -> ExecState:
    """NotFound for one that is not of this container, or of whose end the record has gone (engine.runtime.kept_execs)."""
    engine.records.spec(container_id, tenant=tenant)
    return state_of(engine, container_id, exec_id)


def state_of(engine: Engine, container_id: str, exec_id: str) -> ExecState:
    """As ``state``, of whichever tenant."""
    if not is_container_id(container_id) or not is_container_id(exec_id):
        raise _no_such_exec(exec_id)
    words = disk.read_json(exec_folder(engine.config, container_id) / f"{exec_id}.json")
    if words is None:
        raise _no_such_exec(exec_id)
    return _state(engine, words)


def states(engine: Engine, container_id: str) -> list[ExecState]:
    """All of which there is a record; those of health checks are not among them."""
    found = []
    for path in exec_folder(engine.config, container_id).glob("*.json"):
        words = disk.read_json(path)
        if words is not None and not words["quiet"]:
            found.append(_state(engine, words))
    return found


def _state(engine: Engine, words: dict[str, Any]) -> ExecState:
    ended = "exit_code" in words
    if not ended:  # with its container dead, and nobody there who saw it
        present = engine.records.state(words["id"])
        lost = present.run != words["run"] or present.status not in (Status.RUNNING, Status.PAUSED)
        words = {**words, "exit_code": LOST, "finished_at_ns": present.finished_at_ns} if lost else words
        ended = lost
    return ExecState(
        id=words["exec"],
        container_id=words["id"],
        run=words["run"],
        pid=words["pid"],
        running=not ended,
        exit_code=words.get("exit_code", 0),
        started_at_ns=words["started_at_ns"],
        finished_at_ns=words.get("finished_at_ns", 0),
    )


def _no_such_exec(exec_id: str) -> errors.NotFound:
    return errors.NotFound(f"No such exec instance: {exec_id}")


def wait(engine: Engine, container_id: str, exec_id: str) -> int:
    """Its exit code, when it has ended. 137 also when nobody saw how it ended."""
    deadline = time.monotonic() + _KEEPER_BACK_S
    while True:
        try:
            return int(engine.keeper.exec_wait(container_id, exec_id)["exit_code"])
        except errors.NotFound:
            return LOST
        except errors.Unavailable:  # the keeper was killed: the next one knows
            if time.monotonic() > deadline:
                raise
            time.sleep(_ASK_AGAIN_S)


def forget(config: EngineConfig, container_id: str) -> None:
    """The records of an earlier run."""
    shutil.rmtree(exec_folder(config, container_id), ignore_errors=True)


# -- a command and its output --------------------------------------------------------------------


def run(
    engine: Engine,
    tenant: str,
    container_id: str,
    args: Sequence[str],
    *,
    user: str = "",
    env: Sequence[str] = (),
    cwd: str = "",
    timeout_s: float,
    output_limit: int,
) -> tuple[int, bytes]:
    """Exit code and what it wrote to both streams, cut at ``output_limit`` bytes. For probes: nobody is told, no record stays.

    Raises what ``begin`` does, and Unavailable when it still runs after ``timeout_s``: then it was killed.
    """
    spec = ExecSpec(id=secrets.token_hex(32), args=tuple(args), env=tuple(env), cwd=cwd, user=user, quiet=True)
    deadline = time.monotonic() + timeout_s
    with begin(engine, tenant, container_id, spec) as execution:
        try:
            output, in_time = _read_all(execution, deadline, output_limit)
            if not in_time:
                execution.kill()
            exit_code = wait(engine, container_id, spec.id)
        finally:
            (exec_folder(engine.config, container_id) / f"{spec.id}.json").unlink(missing_ok=True)
    if not in_time:
        raise errors.Unavailable(f"the command did not end within {timeout_s:g} s", output=output.decode(errors="replace"))
    return exit_code, output


def _read_all(execution: Execution, deadline: float, limit: int) -> tuple[bytes, bool]:
    """(output, whether it ended in time). What it left running may hold the streams open: its own end is what counts."""
    poll, output = select.poll(), bytearray()
    streams = [execution.fds[name] for name in ("stdout", "stderr")]
    for fd in (*streams, execution.fds["pidfd"]):
        poll.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        ready = [fd for fd, _events in poll.poll(max(0.0, left) * 1000)]
        reading = [fd for fd in streams if fd in ready]
        for fd in reading:
            data = os.read(fd, _CHUNK)
            if data:
                output += data[: limit - len(output)]  # the rest is read and dropped: a full pipe would hold the command
            else:
                poll.unregister(fd)
                streams.remove(fd)
        if not reading and execution.fds["pidfd"] in ready:
            return bytes(output), True
        if left <= 0:
            return bytes(output), False
