"""A small, quick client of the Docker Engine HTTP API: kept-alive connections, raw streams, no SDK in the way."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import threading
from typing import Any
from urllib.parse import urlencode

API = "1.41"  # what Debian 12's dockerd speaks
TIMEOUT_S = 300


class BenchError(Exception):
    """The engine did not do the work, so there is nothing to time."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


class Engine:
    """One engine under test, at ``unix:///path``. Safe for threads: each has a connection of its own."""

    def __init__(self, name: str, url: str) -> None:
        if not url.startswith("unix://"):
            raise BenchError(f"{url}: only unix:// sockets are measured (a TCP hop would be measured with them)")
        self.name, self.url, self.path = name, url, url.removeprefix("unix://")
        self.made: set[str] = set()
        self._local = threading.local()

    def call(self, method: str, path: str, body: Any = None, more: dict[str, str] | None = None, /, **query: str) -> bytes:
        """The reply's body; raises BenchError for any status from 400 up. ``body`` is JSON, or the bytes of a tar; ``more``: headers."""
        headers, payload = dict(more or {}), None
        if isinstance(body, bytes):
            payload, headers["Content-Type"] = body, "application/x-tar"
        elif body is not None:
            payload, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        url = f"/v{API}{path}" + (f"?{urlencode(query)}" if query else "")
        for attempt in (1, 2):
            connection = getattr(self._local, "connection", None)
            fresh = connection is None
            if fresh:
                connection = self._local.connection = _UnixConnection(self.path)
            try:
                connection.request(method, url, payload, headers)
                reply = connection.getresponse()
                data: bytes = reply.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                self._local.connection = None
                if fresh or attempt == 2:
                    raise
        if reply.will_close:
            connection.close()
            self._local.connection = None
        if reply.status >= 400:
            raise BenchError(f"{self.name}: {method} {path}: {reply.status} {data[:300].decode(errors='replace')}")
        return data

    def json(self, method: str, path: str, body: Any = None, /, **query: str) -> Any:
        return json.loads(self.call(method, path, body, **query) or b"null")

    def create(self, command: list[str], network: str = "none", **config: Any) -> str:
        words = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": network}, **config}
        made = self.json("POST", "/containers/create", words)
        self.made.add(made["Id"])
        return str(made["Id"])

    def start(self, container: str) -> None:
        self.call("POST", f"/containers/{container}/start")

    def wait(self, container: str) -> int:
        return int(self.json("POST", f"/containers/{container}/wait")["StatusCode"])

    def remove(self, container: str, *, force: bool = False) -> None:
        self.call("DELETE", f"/containers/{container}", force="1" if force else "0", v="1")
        self.made.discard(container)

    def clean(self) -> None:
        """Whatever a failed sample left."""
        self._local = threading.local()  # its connection may be in the midst of something
        for container in list(self.made):
            try:
                self.remove(container, force=True)
            except (BenchError, OSError):
                self.made.discard(container)

    def stream(self, method: str, path: str, /, *, hijack: bool = False, body: Any = None, **query: str) -> tuple[socket.socket, bytes]:
        """A raw connection after its response head, and the first bytes of the body that came along."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT_S)
        sock.connect(self.path)
        extra = "Connection: Upgrade\r\nUpgrade: tcp" if hijack else "Connection: close"
        words = b"" if body is None else json.dumps(body).encode()
        about = f"{extra}\r\nContent-Type: application/json\r\nContent-Length: {len(words)}"
        sock.sendall(f"{method} /v{API}{path}?{urlencode(query)} HTTP/1.1\r\nHost: bench\r\n{about}\r\n\r\n".encode() + words)
        got = b""
        while b"\r\n\r\n" not in got:
            block = sock.recv(65536)
            if not block:
                raise BenchError(f"{self.name}: {path}: closed before the reply")
            got += block
        head, rest = got.split(b"\r\n\r\n", 1)
        if int(head.split()[1]) not in (101, 200):
            raise BenchError(f"{self.name}: {path}: {head[:80]!r} {rest[:200]!r}")
        return sock, rest


def drain(sock: socket.socket, first: bytes = b"") -> bytearray:
    """Everything up to the end of the stream, as fast as recv(2) gives it; decoding is for after the clock stopped."""
    data, buffer = bytearray(first), bytearray(1 << 20)
    view = memoryview(buffer)
    with sock:
        while count := sock.recv_into(buffer):
            data += view[:count]
    return data


def dechunk(body: bytes) -> bytes:
    """Undo ``Transfer-Encoding: chunked``; a body that is not chunked comes back as it is."""
    out, at = bytearray(), 0
    try:
        while True:
            end = body.index(b"\r\n", at, at + 20)
            size = int(body[at:end], 16)
            if size == 0:
                return bytes(out)
            out += body[end + 2 : end + 2 + size]
            at = end + 4 + size
    except ValueError:
        return body


def payload(frames: bytes) -> bytes:
    """stdout and stderr of Docker's 8-byte frames."""
    out, at = bytearray(), 0
    while at + 8 <= len(frames):
        size = struct.unpack_from(">I", frames, at + 4)[0]
        out += frames[at + 8 : at + 8 + size]
        at += 8 + size
    return bytes(out)


def available_mib() -> float:
    """MemAvailable of the machine, proc_meminfo(5)."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 1024


def peer_pid(path: str) -> int:
    """Who listens on a unix socket: SO_PEERCRED of a connection, unix(7)."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def processes() -> dict[int, tuple[int, str, str]]:
    """pid → (parent, command line, cgroup text) of all processes."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as line, open(f"/proc/{pid}/cgroup") as group:
                found[int(pid)] = (int(stat.read().rsplit(")", 1)[1].split()[1]), line.read().replace("\0", " "), group.read())
        except OSError:
            continue
    return found
