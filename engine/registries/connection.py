"""HTTP/1.1 connections to vetted addresses, kept for the next request. Nothing of registries in here."""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from engine.errors import EngineError, InvalidArgument
from engine.registries.faults import Broken, of_network
from engine.registries.reach import Reach
from engine.registries.wayout import Proxy, WaysOut

CONNECT_S: Final = 15.0  # to one address
_ADDRESSES: Final = 8  # of one name
_KEPT: Final = 8  # idle connections to one place
_PORTS: Final = {"http": 80, "https": 443}


class Place(NamedTuple):
    """Where a URL leads."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def place_of(url: str) -> Place:
    """InvalidArgument for what is no http URL."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        raise InvalidArgument(f'parse "{url[:200]}": invalid URL') from None
    if scheme not in _PORTS or not host or any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise InvalidArgument(f'"{url[:200]}": unsupported protocol scheme "{scheme[:20]}"')
    return Place(scheme, host, port or _PORTS[scheme])


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe at one registry. PEM texts; ``verify`` False believes anybody."""

    verify: bool = True
    authorities: str = ""
    own: tuple[tuple[str, str], ...] = ()

    def context(self) -> ssl.SSLContext:
        """Raises InvalidArgument for certificates that are none."""
        context = ssl.create_default_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if self.authorities:
                context.load_verify_locations(cadata=self.authorities)
            for certificate, key in self.own:
                _show(context, certificate, key)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidArgument(f"the operator's certificates for this registry can't be used: {error}") from None
        return context


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL reads a key from a file only: from one in memory that has no name."""
    fd = os.memfd_create("certificate")
    try:
        os.write(fd, f"{certificate}\n{key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class Connection(http.client.HTTPConnection):
    """One address that has been looked at; TLS where the place says so. ``proxy``: the way there, of the operator's choice."""

    def __init__(self, place: Place, reach: Reach, context: ssl.SSLContext | None, proxy: Proxy | None, silence_s: float) -> None:
        super().__init__(place.host, place.port, timeout=silence_s, blocksize=256 << 10)
        self._silence_s = silence_s
        self._place, self._reach, self._context, self._proxy = place, reach, context, proxy
        self.used = False  # an answer has come over it: should it break now, the peer may just have closed it for its age

    def connect(self) -> None:
        """Raises Broken with Go's words, PermissionDenied for where nobody may go."""
        place, proxy = self._place, self._proxy
        host, port = (proxy.host, proxy.port) if proxy is not None else (place.host, place.port)
        shown = f"{host}:{port}"
        if proxy is not None:
            self._check_destination()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:_ADDRESSES]
        except (OSError, UnicodeError):
            raise Broken(of_network(socket.gaierror(), shown)) from None
        refused: EngineError | None = None
        failed: Exception | None = None
        for family, kind, protocol, _name, address in found:
            try:
                if proxy is None:
                    self._reach.check(place.host, place.port, str(address[0]))
            except EngineError as error:
                refused = error
                continue
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(CONNECT_S)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    if proxy is not None:
                        proxy.tunnel(sock, place.host, place.port)
                    sock = self._context.wrap_socket(sock, server_hostname=place.host)
                sock.settimeout(self._silence_s)
            except (Broken, EngineError):
                sock.close()
                raise
            except OSError as error:
                sock.close()
                failed = error
                if isinstance(error, ssl.SSLError):
                    raise Broken(of_network(error)) from None
                dotted = str(address[0])
                shown = f"[{dotted}]:{port}" if family == socket.AF_INET6 else f"{dotted}:{port}"
                continue
            self.sock = sock
            return
        if failed is not None:
            raise Broken(of_network(failed, shown)) from None
        raise refused or Broken(of_network(socket.gaierror(), shown))

    def _check_destination(self) -> None:
        """As far as it can be told from here where the proxy would go."""
        place = self._place
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return  # the proxy may know the name
        for _family, _kind, _protocol, _name, address in found:
            self._reach.check(place.host, place.port, str(address[0]))

    def begin(self, method: str, target: str) -> None:
        """A request's first line; to a proxy that reads it, it names the place, too."""
        by = self._proxy if self._context is None else None
        whole = f"http://{self._place.authority}{target}" if by is not None else target
        self.putrequest(method, whole, skip_accept_encoding=True)
        for name, value in (by.headers if by is not None else {}).items():
            self.putheader(name, value)


class Pool:
    """Connections by place. For any number of threads."""

    def __init__(self, reach: Reach, trust: Mapping[str, Trust], ways: WaysOut, silence_s: float) -> None:
        """``trust`` by authority (host[:port]); whoever is not named there is held to the system's authorities."""
        self._reach, self._trust, self._ways, self._silence_s = reach, trust, ways, silence_s
        self._lock = threading.Lock()
        self._idle: dict[Place, list[Connection]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}

    def take(self, place: Place) -> Connection:
        with self._lock:
            idle = self._idle.get(place, [])
            while idle:
                kept = idle.pop()
                if not _has_ended(kept):
                    return kept
                kept.close()
            context = self._context(place) if place.scheme == "https" else None
        return Connection(place, self._reach, context, self._ways.to(*place), self._silence_s)

    def give(self, place: Place, connection: Connection) -> None:
        """After a whole answer has been read."""
        connection.used = True
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if connection.sock is not None and len(idle) < _KEPT:
                idle.append(connection)
                return
        connection.close()

    def _context(self, place: Place) -> ssl.SSLContext:
        authority = place.authority.lower()
        key = authority if authority in self._trust else ""
        if key not in self._contexts:
            self._contexts[key] = self._trust.get(key, Trust()).context()
        return self._contexts[key]


def _has_ended(connection: Connection) -> bool:
    """Whether its peer has closed it, or says something that nobody asked for."""
    if connection.sock is None:
        return True
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def headers_of(response: http.client.HTTPResponse, name: str) -> list[str]:
    found: list[Any] = response.headers.get_all(name) or []
    return [str(each) for each in found]
