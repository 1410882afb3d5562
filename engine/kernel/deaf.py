"""Sockets that hold a port and hear nothing: a classic BPF program that lets no packet through. socket(7), SO_ATTACH_FILTER.

A TCP socket must listen, or another program's with SO_REUSEADDR may have the port as well; deaf, it answers no SYN, so nobody is connected
to nothing. A UDP socket would fill its buffer.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

from engine.kernel.syscalls import SockFprog

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_SO_DETACH_FILTER: Final = 27
_RETURN_NOTHING: Final = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0 bytes; linux/filter.h


def deafen(sock: socket.socket) -> None:
    """Before bind(2): not one packet gets in."""
    program = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(SockFprog(1, ctypes.addressof(program))))


def hear(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
