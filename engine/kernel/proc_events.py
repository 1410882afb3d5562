"""The exits of all processes of the host, by the kernel's process events connector (linux/cn_proc.h, netlink(7)).

    nlmsghdr 16 bytes · cn_msg 20 bytes (idx, val, seq, ack, len, flags) · proc_event (what, cpu, time 16 bytes; then of an exit
    pid, tgid, exit code in the form of wait(2), exit signal)

It speaks of every process there is, so a listener pays for all; keep one no longer than needed. Needs CAP_NET_ADMIN and the initial
pid namespace: elsewhere nothing is heard.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

_NETLINK_CONNECTOR: Final = 11
_CN_IDX_PROC: Final = 1
_CN_VAL_PROC: Final = 1
_PROC_CN_MCAST_LISTEN: Final = 1
_PROC_EVENT_EXIT: Final = 0x8000_0000
_NLMSG_DONE: Final = 3
_HEADERS: Final = struct.Struct("=IHHII" + "IIIIHH")
_EXIT: Final = struct.Struct("=I12xIII")  # what, pid, tgid, exit code
_BUFFER: Final = 4 << 20  # bytes: a burst of forks on a busy host


def listen_to_exits() -> socket.socket:
    """A non-blocking socket for ``read_exits``. PermissionError without CAP_NET_ADMIN."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.bind((0, _CN_IDX_PROC))
        size = _HEADERS.size + 4
        words = _HEADERS.pack(size, _NLMSG_DONE, 0, 0, os.getpid(), _CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0)
        sock.send(words + struct.pack("=I", _PROC_CN_MCAST_LISTEN))
    except BaseException:
        sock.close()
        raise
    return sock


def read_exits(sock: socket.socket) -> Iterator[tuple[int, int]]:
    """Pid and status (as wait(2) has it) of every process, not thread, that has ended since. What overflowed is not heard."""
    while True:
        try:
            message = sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: some are lost, the next ones are not
            continue
        if len(message) < _HEADERS.size + _EXIT.size:
            continue
        what, pid, tgid, status = _EXIT.unpack_from(message, _HEADERS.size)
        if what == _PROC_EVENT_EXIT and pid == tgid:
            yield pid, status
