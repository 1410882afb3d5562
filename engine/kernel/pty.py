"""pty(7) in the devpts of the mount namespace that the caller lives in."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Final

_TIOCSPTLCK: Final = 0x40045431  # asm-generic/ioctls.h
_TIOCGPTPEER: Final = 0x5441  # Linux 4.13


def open_pty(ptmx: str = "/dev/pts/ptmx") -> tuple[int, int]:
    """(master, slave), close-on-exec. The slave is opened through the master, whatever lies at /dev/pts/0."""
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def make_controlling(slave: int) -> None:
    """The terminal of this session, whose leader the caller is."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def set_window_size(fd: int, *, rows: int, columns: int) -> None:
    """Of master or slave; the foreground process group gets SIGWINCH when it changed. TIOCSWINSZ."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))
