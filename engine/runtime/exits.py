"""How processes ended: our own children, those that foster reaped for a dead keeper, and those of nobody we know.

A container of a killed keeper becomes foster's child. Foster notes each such exit in one append-only file *before* it reaps,
so no death of either loses one; the eventfd that both hold tells the living keeper to look. A line of the file is

    pid · start time (proc(5) stat, field 22: a recycled pid differs) · exit code · signal · unix time in ns
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

WALL: Final = 0x40000000  # __WALL, waitid(2): children whose exit signal is not SIGCHLD too
_PARENT: Final = 1  # fields of /proc/<pid>/stat, counted from the state
_START_TIME: Final = 19
_EXIT_CODE: Final = 49
_PIDFD_GET_INFO: Final = 0xC040FF0B  # linux/pidfd.h, struct pidfd_info of 64 bytes; exits since 6.15
_PIDFD_INFO_EXIT: Final = 1 << 3
_INFO_SIZE: Final = 64
_EXIT_CODE_AT: Final = 60  # in struct pidfd_info
LOST: Final = 137  # the exit code when nobody is left who knows it


class Exit(NamedTuple):
    """``exit_code`` is 128 + n for signal n, as a shell counts."""

    exit_code: int
    signal: int
    time_ns: int


class Process(NamedTuple):
    """A process that stays itself when its number is used again."""

    pid: int
    start_time: int


def next_exit() -> tuple[int, Exit] | None:
    """A child that has ended and is still to be reaped, of any kind; None when there is none."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL)
    except ChildProcessError:
        return None
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return info.si_pid, Exit(info.si_status, 0, time.time_ns())
    return info.si_pid, Exit(128 + info.si_status, info.si_status, time.time_ns())


def reap(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | WALL)


def start_time(pid: int) -> int:
    """Clock ticks since boot; 0 when there is no such process. A zombie still has one."""
    fields = _stat(pid)
    return int(fields[_START_TIME]) if fields else 0


def parent(pid: int) -> int:
    """0 when there is no such process."""
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields else 0


def open_process(process: Process) -> int | None:
    """A pidfd of exactly that process (also of a zombie), or None when it is gone."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return None
    if start_time(process.pid) != process.start_time:
        os.close(pidfd)
        return None
    return pidfd


def exit_of_stranger(process: Process, pidfd: int) -> Exit | None:
    """How a process ended whose parent is neither foster nor we: what the kernel shows of a zombie, or remembers (Linux 6.15)."""
    fields = _stat(process.pid)
    if fields and int(fields[_START_TIME]) == process.start_time:
        return from_status(int(fields[_EXIT_CODE])) if fields[0] in b"ZX" else None
    info = bytearray(_INFO_SIZE)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("=Q", info)[0] & _PIDFD_INFO_EXIT:
        return None
    return from_status(struct.unpack_from("=i", info, _EXIT_CODE_AT)[0])


def from_status(status: int) -> Exit:
    """From the form of wait(2), now."""
    signal = status & 0x7F
    return Exit(128 + signal if signal else status >> 8 & 0xFF, signal, time.time_ns())


def _stat(pid: int) -> list[bytes]:
    """The fields of proc(5)'s stat from the third (state) on; none when there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    except ProcessLookupError:
        return []
    finally:
        os.close(fd)


class ExitFile:
    """Foster's notes. Foster appends; the keeper reads what is new and empties the file when it awaits nothing more."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._read_to = 0

    def fds(self) -> tuple[int, int]:
        return self._fd, self.event_fd

    def append(self, process: Process, ended: Exit) -> None:
        os.write(self._fd, b"%d %d %d %d %d\n" % (*process, *ended))
        os.eventfd_write(self.event_fd, 1)

    def rewind(self) -> None:
        """A new keeper reads all of it."""
        self._read_to = 0

    def read_new(self) -> dict[Process, Exit]:
        try:
            os.eventfd_read(self.event_fd)
        except BlockingIOError:
            pass
        data = bytearray()
        while piece := os.pread(self._fd, 1 << 16, self._read_to + len(data)):
            data += piece
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        found = {}
        for line in whole.splitlines():
            pid, started, exit_code, signal, time_ns = map(int, line.split())
            found[Process(pid, started)] = Exit(exit_code, signal, time_ns)
        return found

    def clear(self) -> None:
        os.ftruncate(self._fd, 0)
        self._read_to = 0
