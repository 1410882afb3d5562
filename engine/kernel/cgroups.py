"""cgroups(7), version 2 and version 1 behind the same functions. A path is named from the root of each hierarchy:
``/slipway-ab12/demo/<id>``.

Version 2 is one tree at /sys/fs/cgroup; version 1 has a tree per controller, wherever they are mounted. A machine with controllers on
version 1 and an empty version 2 beside them ("hybrid") is version 1 here.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from functools import cache
from typing import Protocol

from engine.kernel import cgroup_v1, cgroup_v2, syscalls
from engine.kernel.cgroup_files import DeviceRule, Usage, remove_empty_folder
from engine.kernel.syscalls import Clone, CloneArgs
from engine.model.resources import Resources

__all__ = [
    "DeviceRule", "Usage", "create", "ensure", "enter", "exists", "folder_fd", "fork", "freeze", "join", "kill_all", "mount",
    "oom_kills", "pids", "remove", "remove_empty", "set_limits", "thaw", "usage", "version",
]  # fmt: skip


@cache
def version() -> int:
    """2, 1, or 0 where no controller is mounted."""
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return 2
    return 1 if cgroup_v1.hierarchies() else 0


def create(path: str, limits: Resources, devices: Sequence[DeviceRule] = ()) -> None:
    """A leaf for processes, with its parents where they are missing. FileExistsError when it is there; nothing is left on error.

    Of limits by device ``path`` is major:minor here (block_devices.numbered).
    """
    _room().create(path, limits, devices)


def ensure(path: str, limits: Resources) -> None:
    """A node above leaves (a tenant). Its limits are set when it is new, as after a reboot; else it is left alone."""
    if not exists(path):
        set_limits(path, limits)


def set_limits(path: str, limits: Resources) -> None:
    """Live; of a tenant or of a container. A 0 lifts a limit, but for those by device, which stay. Makes a node that is missing.

    OSError: the kernel refuses a value; those written before stay.
    """
    _room().set_limits(path, limits)


def exists(path: str) -> bool:
    """In the tree in which it is made last: in every one, then, though its maker was killed."""
    return os.path.isdir(_room().places()[-1] + path)


def folder_fd(path: str) -> int:
    """Version 2: for clone3's CLONE_INTO_CGROUP. Version 1: -1, see ``enter``. The caller closes it."""
    if version() == 2:
        return os.open(cgroup_v2.main_folder(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return -1


def fork(path: str) -> int:
    """As os.fork, for a process with one thread; version 2: the child is born in the cgroup, and a move there later would wait for an RCU
    grace period. Version 1: the child calls ``join``."""
    if version() != 2:
        return os.fork()
    folder = folder_fd(path)
    try:
        return syscalls.clone3(CloneArgs(flags=Clone.INTO_CGROUP, exit_signal=signal.SIGCHLD, cgroup=folder))
    finally:
        os.close(folder)


def enter(path: str, pid: int) -> None:
    """Move a process in (all its threads)."""
    _room().enter(path, pid)


def join(path: str) -> None:
    """Move this process in, which has one thread. On version 1 without the lock that stops all forks of the machine for a moment."""
    _room().join(path)


def open_view(path: str) -> list[int]:
    """What ``mount`` needs and what can only be opened before the root is changed: detached mounts, for ``mount`` to close."""
    return _room().open_view(path)


def mount(target: str, flags: int, view: Sequence[int]) -> None:
    """The files of its own cgroup, for a container: within its cgroup and mount namespace; ``flags`` are MS_."""
    _room().mount(target, flags, view)


def pids(path: str) -> list[int]:
    """Of it and of what is below."""
    return _room().pids(path)


def kill_all(path: str) -> None:
    """SIGKILL for every process there and below, also those that fork meanwhile. A missing one is fine."""
    _room().kill_all(path)


def freeze(path: str) -> None:
    """Returns when all have stopped. TimeoutError when one does not."""
    _room().freeze(path)


def thaw(path: str) -> None:
    _room().thaw(path)


def remove(path: str) -> None:
    """With what is below. Missing is fine; OSError EBUSY while processes live there."""
    _room().remove(path)


def remove_empty(path: str) -> bool:
    """Unless something is in it: neither processes nor folders go. Whether it is gone."""
    return all(remove_empty_folder(place + path) for place in _room().places())


def remove_soon(path: str, *, patience_s: float = 5.0) -> None:
    """As ``remove``, of one whose processes have been killed and may not be reaped yet."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            remove(path)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def names(path: str) -> list[str]:
    """Of the cgroups directly below; "/" is the machine's own root. Missing: none."""
    try:
        return sorted(entry.name for entry in os.scandir(_room().main_folder(path)) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def oom_kills(path: str) -> int:
    """How many processes the kernel killed there for memory. FileNotFoundError when it is gone."""
    return _room().oom_kills(path)


def usage(path: str) -> Usage:
    """What it has used so far. FileNotFoundError when it is gone."""
    return _room().usage(path)


class _Room(Protocol):
    """What both modules offer."""

    def main_folder(self, path: str) -> str: ...
    def places(self) -> Sequence[str]: ...
    def create(self, path: str, limits: Resources, devices: Sequence[DeviceRule]) -> None: ...
    def set_limits(self, path: str, limits: Resources) -> None: ...
    def enter(self, path: str, pid: int) -> None: ...
    def join(self, path: str) -> None: ...
    def open_view(self, path: str) -> list[int]: ...
    def mount(self, target: str, flags: int, view: Sequence[int]) -> None: ...
    def pids(self, path: str) -> list[int]: ...
    def kill_all(self, path: str) -> None: ...
    def freeze(self, path: str) -> None: ...
    def thaw(self, path: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def oom_kills(self, path: str) -> int: ...
    def usage(self, path: str) -> Usage: ...


@cache
def _room() -> _Room:
    return cgroup_v2 if version() == 2 else cgroup_v1
