"""netdevice(7): the one link that every new network namespace has, and has down."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

_SIOCSIFFLAGS: Final = 0x8914  # linux/sockios.h
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40


def bring_up() -> None:
    """``lo`` of the caller's network namespace; the kernel gives it 127.0.0.1 and ::1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("=16sh22x", b"lo", _IFF_UP | _IFF_RUNNING))
