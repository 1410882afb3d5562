"""The listeners for HTTP and TLS, opened once by the supervisor and kept while web comes and goes."""

from __future__ import annotations

import socket
from typing import Final
from urllib.parse import urlsplit

from workers.platform.say import Refusal

BACKLOG: Final = 2048


def split(address: str, variable: str = "SLIPWAY_HTTP") -> tuple[str, int]:
    """``127.0.0.1:8000``, ``[::1]:8000``, ``:8000`` (every address). Refusal, naming the variable, when it is none of these."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if port is None:
        raise Refusal(f"{variable}={address}: say host:port, as in 127.0.0.1:8000")
    return host, port


def open_http(address: str, variable: str = "SLIPWAY_HTTP") -> socket.socket:
    """Listening, not blocking. Raises OSError: the port is taken, or the address is not this machine's."""
    host, port = split(address, variable)
    family = socket.AF_INET6 if ":" in host or not host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not host else 1)
        sock.bind((host or "::", port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
