"""The process that joins a running container, from clone3 to execve: member.py's younger sister. How it talks with the launcher
stands above engine.runtime.last_steps.

The container's root is the enemy here, and sees this process in its /proc from the first moment on. Until execve it is not dumpable,
so nobody in there can trace it, read its memory, or reach our interpreter through its ``exe`` (CVE-2019-5736); every descriptor of
the launcher's but its own is closed before a name of the container is followed (CVE-2024-21626).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from engine.errors import FailedPrecondition, InvalidArgument
from engine.kernel import cgroups, processes, syscalls
from engine.kernel.syscalls import Clone
from engine.runtime import last_steps
from engine.runtime.last_steps import Filters, Step
from engine.runtime.plan import Plan

# Around what went wrong inside, as dockerd says it of exec
SENTENCE: Final = "OCI runtime exec failed: exec failed: unable to start container process: {}"
# All but the pid namespace, which it was born in; setns(2) takes the user namespace first
_NAMESPACES: Final = int(Clone.NEWUSER | Clone.NEWNS | Clone.NEWNET | Clone.NEWIPC | Clone.NEWUTS | Clone.NEWCGROUP)
_NO_FOLDER: Final = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EPERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """The descriptors that a joiner has of the launcher's; -1: /dev/null, or a terminal."""

    control: int
    target: int  # the pidfd of the container's first process
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1

    def all(self) -> list[int]:
        return [fd for fd in (self.control, self.target, self.stdin, self.stdout, self.stderr) if fd >= 0]


def run(plan: Plan, wires: Wires, filters: Filters) -> NoReturn:
    """Never returns: execve, or a report and the end."""
    last_steps.run(wires.control, partial(_set_up, plan, wires, filters), partial(_describe, plan), wait=True)


def _set_up(plan: Plan, wires: Wires, filters: Filters, step: Step) -> None:
    step.name = "close descriptors"
    last_steps.close_all_but(wires.all())
    step.name = "join the cgroup"
    with suppress(OSError):  # ENOSYS: a kernel without keys
        syscalls.join_session_keyring()
    if cgroups.version() == 1:  # version 2: born in it
        cgroups.join(plan.cgroup)
    step.name = "join the namespaces"
    syscalls.setns(wires.target, _NAMESPACES)
    processes.hide()  # new credentials made it visible again, where fs.suid_dumpable says so
    os.close(wires.target)
    os.setresgid(0, 0, 0)
    os.setgroups([])
    os.setresuid(0, 0, 0)
    processes.hide()
    os.setsid()
    step.name = "open the standard streams"
    _open_streams(plan, wires)
    os.umask(plan.umask)
    last_steps.become_user(plan, filters, step, _enter_folder)
    step.name = "find the command"
    last_steps.execute(plan, _find(plan), wires.control, step)


def _find(plan: Plan) -> str:
    name = plan.args[0]
    if "/" in name and os.path.isdir(name):  # dockerd's words for it differ between run and exec
        raise InvalidArgument(SENTENCE.format(f'exec: "{name}": permission denied'), exit_code=126)
    return last_steps.find_program(name, plan.env.get("PATH", ""), SENTENCE)


def _enter_folder(path: str) -> None:
    """Not made when it is missing: only the image's is, at the start."""
    os.chdir(path)
    last_steps.check_folder(path)


def _open_streams(plan: Plan, wires: Wires) -> None:
    """Descriptors 0, 1, 2."""
    if plan.terminal:
        last_steps.open_terminal(plan, wires.control, console=False)
        return
    for number, fd in enumerate((wires.stdin, wires.stdout, wires.stderr)):
        # O_NONBLOCK and O_NOCTTY: the container's root may have put anything there
        opened = fd if fd >= 0 else os.open("/dev/null", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        os.dup2(opened, number)
        os.close(opened)


def _describe(plan: Plan, error: BaseException, step: Step) -> dict[str, Any]:
    """engine.errors' JSON, with ``exit_code`` where dockerd's client would exit with it."""
    if isinstance(error, OSError):
        words = os.strerror(error.errno or 0).lower()
        if step.name.startswith("change to the working folder") and error.errno in _NO_FOLDER:
            refusal = SENTENCE.format(f'chdir to cwd ("{plan.cwd}") set in config.json failed: {words}')
            return InvalidArgument(refusal, exit_code=127 if error.errno == errno.ENOENT else 126).to_json()
        if (step.name, error.errno) in (("join the cgroup", errno.ENOENT), ("join the namespaces", errno.ESRCH)):
            return FailedPrecondition("container is not running").to_json()
    return last_steps.describe(error, step, SENTENCE)
