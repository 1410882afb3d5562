"""The operator's proxy, where there is one: HTTPS_PROXY, HTTP_PROXY and NO_PROXY mean what they mean to Go's net/http, and so to dockerd.

The proxy looks names up and dials, so what it lets through is the wall of what goes by it. ``Reach`` still refuses addresses that are
written out, and names that lead to such from here; a name that only the proxy knows goes to the proxy.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from engine.config import RegistryConfig
from engine.errors import Unavailable
from engine.registries.faults import Broken, of_network
from engine.registries.reach import as_network

_PORT: Final = 80
_LOCAL: Final = "localhost"


@dataclass(frozen=True, slots=True)
class Proxy:
    """``authorization``: what it wants of us itself, or ""."""

    host: str
    port: int
    authorization: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    def tunnel(self, sock: socket.socket, host: str, port: int) -> None:
        """Of a socket that is connected to the proxy, one that is connected to ``host``. RFC 9110, section 9.3.6."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *(f"{name}: {value}" for name, value in self.headers.items())]
        try:
            sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            answer = http.client.HTTPResponse(sock, method="CONNECT")
            answer.begin()
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise Broken(f"proxyconnect tcp: {of_network(error)}") from None
        if answer.status != http.client.OK:
            raise Unavailable(f"proxyconnect tcp: the proxy at {self.host}:{self.port} refuses: {answer.status} {answer.reason[:100]}")


class WaysOut:
    """Which proxy leads where."""

    def __init__(self, config: RegistryConfig) -> None:
        """Raises ValueError for a proxy that is none."""
        self._proxies = {"https": _proxy(config.https_proxy), "http": _proxy(config.http_proxy)}
        self._spared = config.no_proxy

    def to(self, scheme: str, host: str, port: int) -> Proxy | None:
        """None: there directly. What is on this machine no proxy leads to."""
        proxy = self._proxies[scheme]
        if proxy is None or host == _LOCAL or any(map(_Target(host, port).is_meant_by, self._spared)):
            return None
        address = _address(host)
        return None if address is not None and address.is_loopback else proxy


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    port: int

    def is_meant_by(self, word: str) -> bool:
        """``word`` of NO_PROXY: *, an address, a network, a domain with all below it, ``.domain`` for what is below it alone; each with
        a port or for all of them."""
        if word == "*":
            return True
        address, network = _address(self.host), as_network(word)
        if network is not None:
            return address is not None and address.version == network.version and address in network
        name, colon, port = word.rpartition(":") if word.count(":") == 1 or "]:" in word else (word, "", "")
        if colon and port != str(self.port):
            return False
        name = name.strip("[]").removeprefix("*")
        if address is not None or _address(name) is not None:
            return address == _address(name)
        return self.host.endswith(name) if name.startswith(".") else self.host == name or self.host.endswith(f".{name}")


def _proxy(url: str) -> Proxy | None:
    """``http://[user:password@]host[:port]``, or without the scheme; "": none."""
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"the proxy {parts.hostname or ''} is not http://HOST:PORT, the only kind that is spoken to")
    known = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    authorization = f"Basic {base64.b64encode(known.encode()).decode()}" if parts.username else ""
    return Proxy(parts.hostname, parts.port or _PORT, authorization)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
