"""HTTP as no good client speaks it: raw requests over a tenant's unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

JSON = "application/json"
TAR = "application/x-tar"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    path: Path,
    method: str,
    target: str,
    body: Any = None,
    *,
    kind: str = JSON,
    timeout_s: float = 60,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """(status, body). What is not bytes or text goes as JSON. TimeoutError when the server hangs."""
    data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
    connection = _Connection(path, timeout_s)
    try:
        connection.request(method, target, data, {**({"Content-Type": kind} if data is not None else {}), **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def connection(path: Path, timeout_s: float = 60) -> AbstractContextManager[http.client.HTTPConnection]:
    """For several requests, one after the other."""
    return closing(_Connection(path, timeout_s))


def open_request(path: Path, head: bytes) -> socket.socket:
    """A connection with these bytes sent; reading, closing or never finishing it is the caller's."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    sock.sendall(head)
    return sock
