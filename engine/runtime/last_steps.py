"""The last steps of a process of ours to its execve, whichever way it came into its container: as its first (member.py) or by exec
(joiner.py). It is a copy of the launcher and only makes system calls.

    launcher → process   "x"  execute; the socket's end (the launcher died) ends it
    process → launcher   {"pty": true} + the master · {"exec": true} right before execve, then the end of the socket (close-on-exec)
                         or {"error": …, "trace": …}; an end without "exec" before it is a process that was killed

The launcher's half is engine.runtime.birth.
"""

from __future__ import annotations

import array  # noqa: F401  # socket.send_fds imports it when called, which is too late here: see run()
import errno
import gc
import json
import os
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from engine.errors import EngineError, InvalidArgument
from engine.kernel import capabilities, paths, processes, pty, scheduling, syscalls
from engine.kernel.syscalls import MS
from engine.runtime import users
from engine.runtime.plan import Plan

EXECUTE: Final = b"x"

# Around what went wrong inside: dockerd hands on what containerd, its shim and runc each said
OCI_SENTENCE: Final = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: {}"
)
_NULL_DEVICE: Final = os.makedev(1, 3)
_IMAGES_FAULT: Final = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENAMETOOLONG)

Filters = Sequence[syscalls.SockFprog]  # for seccomp(2), in the order in which they are loaded


class Step:
    """What is being done, for the words of an error."""

    name = "begin"


class _LauncherGone(Exception):
    """Nobody waits for us."""


def run(
    control: int, act: Callable[[Step], None], describe: Callable[[BaseException, Step], dict[str, Any]], *, wait: bool = False
) -> NoReturn:
    """``act``, which does not return but for a helper's; or a report and the end.

    ``wait``: until the launcher has closed its socket. The keeper is to hear of the failure before it hears of our end.
    """
    gc.disable()
    # Once the root is the container's, an import would take the container's file and run it with what we hold (CVE-2019-14271)
    sys.meta_path.clear()
    step = Step()
    try:
        act(step)
    except _LauncherGone:
        pass
    except BaseException as error:
        with suppress(OSError):
            os.write(control, json.dumps({"error": describe(error, step), "trace": _trace_of(error)}).encode())
            while wait and os.read(control, 64):
                pass
    finally:
        os._exit(128)


def close_all_but(kept: Sequence[int]) -> None:
    """First of all: what the launcher holds of others is not for us, not even until execve."""
    first = 3
    for fd in sorted(kept):
        syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first, syscalls.LAST_FD)


def await_word(control: int, word: bytes) -> None:
    if os.read(control, 1) != word:
        raise _LauncherGone


def execute(plan: Plan, program: str, control: int, step: Step) -> NoReturn:
    """When the launcher says so."""
    syscalls.reset_signal(signal.SIGPIPE)  # what is ignored stays so across execve; the launcher ignores this one alone
    await_word(control, EXECUTE)
    os.write(control, b'{"exec":true}')
    step.name = f"exec {program}"
    os.execve(program, plan.args, plan.env)


# -- standard streams ----------------------------------------------------------------------------


def open_terminal(plan: Plan, control: int, *, console: bool) -> None:
    """Descriptors 0, 1, 2, from the container's own devpts, so that ``tty`` prints a name that is there; ``console``: it is
    also /dev/console."""
    master, slave = pty.open_pty()
    if plan.window:
        pty.set_window_size(master, rows=plan.window[0], columns=plan.window[1])
    if console:
        os.close(os.open("/dev/console", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        syscalls.mount(os.ttyname(slave), "/dev/console", "", MS.BIND)
    pty.make_controlling(slave)
    with socket.socket(fileno=os.dup(control)) as channel:
        socket.send_fds(channel, [b'{"pty":true}'], [master])
    os.close(master)
    for number in range(3):
        os.dup2(slave, number)
    os.close(slave)


def _give_streams(uid: int) -> None:
    """So that ``open("/dev/stdout")`` works for a user, too. The launcher made the pipes as the container's root."""
    if uid == 0:
        return
    for fd in range(3):
        status = os.fstat(fd)
        if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE):
            os.fchown(fd, uid, -1)


# -- who we are ----------------------------------------------------------------------------------


def become_user(plan: Plan, filters: Filters, step: Step, enter: Callable[[str], None]) -> None:
    """``enter`` goes to the working folder, by the rights of the container's root."""
    step.name = "look up the user"
    user = _user(plan)
    if not plan.env.get("HOME"):
        plan.env["HOME"] = user.home or "/"
    if max(user.uid, user.gid, *user.groups) >= plan.ids:
        raise InvalidArgument(f"user {user.uid}:{user.gid} is not mapped: a container's ids end at {plan.ids - 1}")
    step.name = "give the standard streams to the user"
    _give_streams(user.uid)
    step.name = f"change to the working folder {plan.cwd}"
    enter(plan.cwd)
    scheduling.as_others()
    step.name = "limit the capabilities"
    have = plan.capabilities
    capabilities.limit_bounding(have.bounding)
    if not plan.no_new_privileges:
        # without no_new_privs it takes CAP_SYS_ADMIN, which we are about to give away
        _load(filters)
    capabilities.keep_on_setuid()
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    capabilities.set_all(effective=have.effective, permitted=have.permitted, inheritable=have.inheritable, ambient=have.ambient)
    processes.hide()
    if plan.no_new_privileges:
        processes.forbid_new_privileges()
        _load(filters)


def _load(filters: Filters) -> None:
    """From the first on each must let us load the next: the platform's comes first, and does."""
    for each in filters:
        syscalls.seccomp(syscalls.SECCOMP_SET_MODE_FILTER, 0, each)


def _user(plan: Plan) -> users.User:
    if plan.user is None:
        return users.User(plan.uid, plan.gid, plan.groups, users.home_of(plan.uid, read_text(users.PASSWD)))
    return users.find(plan.user, read_text, more=plan.more_groups)


def read_text(path: str) -> str:
    """Empty when there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    return paths.text_of(fd, users.DATABASE_MAX)


def check_folder(path: str) -> None:
    """PermissionError when the present folder is none of our root's ("(unreachable)": CVE-2024-21626)."""
    if not os.getcwd().startswith("/"):
        raise PermissionError(errno.EPERM, "the working folder is outside of the container's root", path)


# -- the command ---------------------------------------------------------------------------------


def find_program(name: str, path: str, sentence: str = OCI_SENTENCE) -> str:
    """As Go's exec.LookPath, by the rights of the calling process. The refusals are dockerd's, with its exit codes."""
    if "/" in name:
        return _check_program(name, sentence)
    for folder in path.split(":"):
        place = f"{folder}/{name}"
        if folder.startswith("/") and name and os.path.isfile(place) and os.access(place, os.X_OK, effective_ids=True):
            return place
    raise refusal(sentence.format(f'exec: "{name}": executable file not found in $PATH'), 127)


def _check_program(name: str, sentence: str) -> str:
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        words = os.strerror(error.errno or 0).lower()
        raise refusal(sentence.format(f'exec: "{name}": stat {name}: {words}'), 126 if error.errno == errno.EACCES else 127) from None
    if stat.S_ISDIR(mode):
        raise refusal(sentence.format(f'exec: "{name}": is a directory'), 126)
    if not os.access(name, os.X_OK, effective_ids=True):
        raise refusal(sentence.format(f'exec: "{name}": permission denied'), 126)
    return name


# -- refusals ------------------------------------------------------------------------------------


def refusal(message: str, exit_code: int) -> InvalidArgument:
    return InvalidArgument(message, exit_code=exit_code)


def describe(error: BaseException, step: Step, sentence: str = OCI_SENTENCE) -> dict[str, Any]:
    """engine.errors' JSON. A failing execve is the command's fault (no interpreter, wrong format); other OSErrors name the step."""
    if isinstance(error, EngineError):
        return error.to_json()
    if isinstance(error, OSError) and step.name.startswith("exec "):
        return refusal(sentence.format(f"{step.name}: {os.strerror(error.errno or 0).lower()}"), 126).to_json()
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        code = "invalid_argument" if _is_asked_for(step.name, error.errno) else "internal"
        return {"code": code, "message": f"{step.name}: {error.strerror}{where}", "detail": {"errno": error.errno}}
    return {"code": "internal", "message": f"{step.name}: internal error; the launcher's log has more", "detail": {}}


def _is_asked_for(step: str, number: int | None) -> bool:
    """Whether the request or the image brought it on: a working folder, a mount on what is no folder, options tmpfs does not know."""
    if step.startswith(("change to the working folder", "set sysctl")):
        return True
    if step.startswith(("mount tmpfs on", "mount bind on")) and number in (errno.EINVAL, errno.ENOENT):
        return True
    return step.startswith("mount ") and number in _IMAGES_FAULT


def _trace_of(error: BaseException) -> str:
    """For the launcher's log; "" for what an EngineError or OSError says well enough. Not format_exc: that reads source files,
    which here are the image's."""
    if isinstance(error, (EngineError, OSError)):
        return ""
    frames = (f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}" for frame, line in traceback.walk_tb(error.__traceback__))
    return f"{error!r} at {', '.join(frames)}"
