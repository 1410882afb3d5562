"""The supervisor's end of sd_notify(3): what parts say of themselves, and the descriptors they leave with us.

A listening socket stored here survives its process: while web restarts, clients wait in the backlog instead of being refused.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STORED_FDS: Final = 4096  # one a tenant; systemd's FileDescriptorStoreMax says the same in the unit
_MESSAGE: Final = 4096
_FDS_A_MESSAGE: Final = 253  # SCM_MAX_FD
_UCRED: Final = struct.Struct("=3i")


@dataclass(frozen=True, slots=True)
class Notification:
    pid: int
    words: dict[str, str]  # READY=1, STATUS=…, FDSTORE=1, FDNAME=…
    fds: tuple[int, ...]  # the caller's to close


class NotifySocket:
    """Bound at ``path``, for root and ``gid``."""

    def __init__(self, path: Path, gid: int) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        self._sock.bind(str(path))
        os.chown(path, 0, gid)
        path.chmod(0o660)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self) -> Notification | None:
        """The next message, None when there is no more."""
        space = socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(_FDS_A_MESSAGE * array.array("i").itemsize)
        try:
            data, ancillary, _flags, _address = self._sock.recvmsg(_MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        pid, fds = 0, array.array("i")
        for level, kind, payload in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_CREDENTIALS:
                pid = _UCRED.unpack(payload[: _UCRED.size])[0]
            elif kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        rows = (row.partition("=") for row in data.decode(errors="replace").splitlines())
        return Notification(pid, {name: value for name, equals, value in rows if equals}, tuple(fds))


class FdStore:
    """Descriptors by name, as FDSTORE=1 with FDNAME= leaves them and FDSTOREREMOVE=1 takes them back."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def items(self) -> dict[str, int]:
        return dict(self._fds)

    def take(self, message: Notification) -> None:
        name = message.words.get("FDNAME", "stored")
        if message.words.get("FDSTOREREMOVE") == "1":
            self._drop(name)
        fds = list(message.fds)
        if message.words.get("FDSTORE") == "1" and fds and (name in self._fds or len(self._fds) < STORED_FDS):
            self._drop(name)
            self._fds[name] = fds.pop(0)
        for fd in fds:
            os.close(fd)

    def _drop(self, name: str) -> None:
        fd = self._fds.pop(name, None)
        if fd is not None:
            os.close(fd)
