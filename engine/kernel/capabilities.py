"""capabilities(7) of the calling thread, as bit masks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from engine.kernel import syscalls
from engine.kernel.syscalls import Prctl

# linux/capability.h
CAP_NET_BIND_SERVICE: Final = 1 << 10
CAP_NET_ADMIN: Final = 1 << 12
CAP_SYS_PTRACE: Final = 1 << 19
CAP_SYS_ADMIN: Final = 1 << 21
CAP_SYS_RESOURCE: Final = 1 << 24


@cache
def last() -> int:
    """The number of the newest capability that this kernel knows."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def effective() -> int:
    return syscalls.capget()[0]


def keep_on_setuid() -> None:
    """Changing from uid 0 to another leaves the permitted set as it is, until execve. PR_SET_KEEPCAPS."""
    syscalls.prctl(Prctl.SET_KEEPCAPS, 1)


def keep_on_setfsuid() -> None:
    """For good: no change of ids touches the sets any more. SECBIT_NO_SETUID_FIXUP; a new user namespace clears it."""
    syscalls.prctl(Prctl.SET_SECUREBITS, syscalls.SECBIT_NO_SETUID_FIXUP)


def limit_bounding(keep: int) -> None:
    """No program started from here gains a capability that is not in ``keep``."""
    for number in range(last() + 1):
        if not keep >> number & 1:
            syscalls.prctl(Prctl.CAPBSET_DROP, number)


def give_up(capabilities: int) -> None:
    """For good: this thread, and every program that is started from here, do without them."""
    limit_bounding(~capabilities)
    effective, permitted, inheritable = (have & ~capabilities for have in syscalls.capget())
    syscalls.capset(effective=effective, permitted=permitted, inheritable=inheritable)


def set_all(*, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    syscalls.capset(effective=effective, permitted=permitted, inheritable=inheritable)
    for number in range(last() + 1):
        if ambient >> number & 1:
            syscalls.prctl(Prctl.CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)
