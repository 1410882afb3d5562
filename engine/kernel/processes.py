"""Other processes, and what this one is to the kernel."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterable
from pathlib import Path

from engine.kernel import syscalls
from engine.kernel.syscalls import Prctl


def die_with_parent() -> None:
    """SIGKILL when the parent ends. PR_SET_PDEATHSIG; children of ours don't inherit it. The caller checks who its parent is now."""
    syscalls.prctl(Prctl.SET_PDEATHSIG, signal.SIGKILL)


def hide() -> None:
    """Not dumpable: nobody without CAP_SYS_PTRACE over the host reads our memory or descriptors in /proc. Children inherit it."""
    syscalls.prctl(Prctl.SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """No setuid bit or file capability counts from here on. PR_SET_NO_NEW_PRIVS."""
    syscalls.prctl(Prctl.SET_NO_NEW_PRIVS, 1)


def available_memory() -> float:
    """What this machine could give without swapping, as a part of all it has. proc_meminfo(5)."""
    with open("/proc/meminfo") as file:
        sizes = {name: int(rest.split()[0]) for name, _, rest in (next(file).partition(":") for _ in range(3))}
    return sizes["MemAvailable"] / sizes["MemTotal"]


def resident_bytes() -> int:
    """Of this process (proc_pid_statm(5))."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def kill(pidfd: int) -> None:
    """SIGKILL. Gone already is fine."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass


def is_reaped(pidfd: int) -> bool:
    """Whether nothing is left of it, not even a zombie."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False


def oom_score_adj() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


def set_oom_score_adj(pid: int, value: int) -> None:
    """proc_pid_oom_score_adj(5). PermissionError below what it once had without CAP_SYS_RESOURCE."""
    _write(f"/proc/{pid}/oom_score_adj", str(value))


def set_sysctl(path: str, value: str) -> None:
    """``path`` from /proc/sys: of the namespaces that this process is in. sysctl(8)."""
    _write(f"/proc/sys/{path}", value)


def set_limits(pid: int, limits: Iterable[tuple[int, int, int]]) -> None:
    """(RLIMIT_ number, soft, hard), of another process. prlimit(2); PermissionError to raise a hard one without CAP_SYS_RESOURCE."""
    for kind, soft, hard in limits:
        resource.prlimit(pid, kind, (soft, hard))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def oom_kills() -> int:
    """How many processes the kernel has killed for memory since boot, for a cgroup's limit or the machine's: proc_vmstat(5)."""
    with open("/proc/vmstat") as lines:
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
