"""namespaces(7), user_namespaces(7): making a process that lives in new ones."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from engine.kernel import syscalls
from engine.kernel.syscalls import Clone, CloneArgs

IdMap = Sequence[tuple[int, int, int]]  # first id inside, first id outside, how many

# runtime-spec's words
FLAGS: Final[dict[str, Clone]] = {
    "user": Clone.NEWUSER,
    "pid": Clone.NEWPID,
    "mount": Clone.NEWNS,
    "network": Clone.NEWNET,
    "uts": Clone.NEWUTS,
    "ipc": Clone.NEWIPC,
    "cgroup": Clone.NEWCGROUP,
}


def clone(flags: int, *, cgroup: int = -1) -> tuple[int, int]:
    """A copy of this process, child of our *parent*, in new namespaces: (pid, pidfd) here, (0, -1) in the child.

    Our parent reaps it and gets our own exit signal for it (CLONE_PARENT wants exit_signal 0). ``cgroup`` is the descriptor of a
    cgroup v2 folder that it is born in. The caller has one thread, and the child only makes system calls and execve.
    """
    pidfd = ctypes.c_int(-1)
    flags |= Clone.PARENT | Clone.PIDFD
    if cgroup >= 0:
        flags |= Clone.INTO_CGROUP
    args = CloneArgs(flags=flags, pidfd=ctypes.addressof(pidfd), cgroup=max(cgroup, 0))
    pid = syscalls.clone3(args)
    return (pid, pidfd.value) if pid else (0, -1)


@contextmanager
def ipc_of(pidfd: int) -> Iterator[None]:
    """In the IPC namespace of that process. The caller has one thread, and ends when there is no way back (OSError)."""
    own = os.open("/proc/self/ns/ipc", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(pidfd, int(Clone.NEWIPC))
        try:
            yield
        finally:
            syscalls.setns(own, int(Clone.NEWIPC))
    finally:
        os.close(own)


def write_id_maps(pid: int, uids: IdMap, gids: IdMap) -> None:
    """Once per user namespace, by somebody outside it."""
    for name, ids in (("uid_map", uids), ("gid_map", gids)):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ids).encode())
        finally:
            os.close(fd)


def user_namespace(uids: IdMap, gids: IdMap) -> int:
    """The descriptor of a user namespace that nobody lives in: a mapping, for an id-mapped mount. The caller closes it."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = syscalls.clone3(CloneArgs(flags=Clone.NEWUSER, exit_signal=0))
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        try:
            write_id_maps(pid, uids, gids)
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(writing)
            writing = -1
            os.waitid(os.P_PID, pid, os.WEXITED | _WALL)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


_WALL: Final = 0x4000_0000  # linux/wait.h: children without an exit signal, too
