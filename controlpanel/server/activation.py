"""Sockets inherited from a supervisor and messages to it: sd_listen_fds(3) and sd_notify(3), without libsystemd."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

FIRST_FD = 3  # SD_LISTEN_FDS_START


def listen_fds() -> dict[str, socket.socket]:
    """The listening sockets handed over, by the name they were given (LISTEN_FDNAMES). Each may be taken once.

    A LISTEN_PID that names another process means the sockets are not ours; a supervisor that can't know our pid leaves it out.
    """
    count = int(os.environ.pop("LISTEN_FDS", "0") or "0")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    pid = os.environ.pop("LISTEN_PID", "")
    if pid and int(pid) != os.getpid():
        return {}
    sockets: dict[str, socket.socket] = {}
    for index in range(count):
        fd = FIRST_FD + index
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        name = names[index] if index < len(names) and names[index] else "unknown"
        if name in sockets:
            sock.close()
        else:
            sockets[name] = sock
    return sockets


def notify(*lines: str, fds: Sequence[int] = ()) -> bool:
    """One message to the supervisor; False without one. ``fds`` go with ``FDSTORE=1`` and ``FDNAME=…``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendmsg(["\n".join(lines).encode()], ancillary, 0, target)
        except OSError:
            return False  # the supervisor is gone: it will not miss the message
    return True


def store(name: str, sock: socket.socket) -> bool:
    """Let the supervisor keep a listening socket: no client is refused while this process restarts."""
    return notify("FDSTORE=1", f"FDNAME={name}", fds=[sock.fileno()])


def forget(name: str) -> bool:
    return notify("FDSTOREREMOVE=1", f"FDNAME={name}")
