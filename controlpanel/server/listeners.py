"""Listening sockets: one for HTTP, one for TLS when asked for, one unix socket per tenant at ``<run>/tenants/<name>/docker.sock``.

Anybody may connect to a tenant's socket (0666 in a 0711 folder); who is let in is decided by SO_PEERCRED for each request.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from controlpanel.server import activation
from controlpanel.server.protocol import TENANT_PREFIX
from controlpanel.server.serve import PanelServer

BACKLOG = 2048  # a burst of connections must not see EAGAIN
HTTP = "http"
TLS = "tls"
_NAME = "docker.sock"


def open_http(address: str) -> socket.socket:
    """``HOST:PORT``, an IPv6 host in brackets. OSError when the port is taken; proto=TCP so that asyncio sees a TCP socket."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family, kind, proto, _name, where = socket.getaddrinfo(
        host, int(port), type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def open_tenant(folder: Path) -> socket.socket:
    """A fresh socket in ``folder``, taking the place of a stale one. Bound through the folder's descriptor: sun_path holds 108 bytes."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.chmod(0o711)
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        temporary = f".{os.getpid()}"
        _unlink(temporary, at)
        sock.bind(f"/proc/self/fd/{at}/{temporary}")
        os.chmod(temporary, 0o666, dir_fd=at)
        sock.listen(BACKLOG)
        os.rename(temporary, _NAME, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(at)
    return sock


def _unlink(name: str, at: int) -> None:
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        pass


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False


class TenantSockets:
    """The tenants' sockets of one server, kept equal to the list of tenants."""

    def __init__(self, server: PanelServer, folder: Path, inherited: dict[str, socket.socket]) -> None:
        self._server = server
        self._folder = folder
        self._inherited = inherited  # by tenant name, handed back by the supervisor
        self._open: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def settle(self, tenants: Iterable[str]) -> None:
        """Open what is missing, close what is too much. Idempotent."""
        wanted = set(tenants)
        for name in sorted(wanted - self._open):
            await self._add(name)
        for name in sorted(self._open - wanted):
            self._remove(name)
        for name in sorted(set(self._inherited) - wanted):  # removed while we were down
            self._inherited.pop(name).close()
            self._vanish(name)

    async def _add(self, name: str) -> None:
        folder, label = self._folder / name, TENANT_PREFIX + name
        sock = self._inherited.pop(name, None)
        if sock is not None and not _is_socket(folder / _NAME):
            sock.close()  # somebody cleared the run folder: nobody can reach this one any more
            activation.forget(label)
            sock = None
        if sock is None:
            sock = open_tenant(folder)
            activation.store(label, sock)
        await self._server.add_listener(label, sock)
        self._open.add(name)

    def _remove(self, name: str) -> None:
        self._open.discard(name)
        self._server.remove_listener(TENANT_PREFIX + name)
        self._vanish(name)

    def _vanish(self, name: str) -> None:
        activation.forget(TENANT_PREFIX + name)
        (self._folder / name / _NAME).unlink(missing_ok=True)
        try:
            (self._folder / name).rmdir()
        except OSError:
            pass  # absent, or something of somebody else is in it
