"""What the operator says of registries, and what it means for one of them: where to ask, whom to believe.

<data>/etc/certs.d/<host[:port]>/*.crt           further authorities for that registry, as docker has it
<data>/etc/certs.d/<host[:port]>/*.cert + *.key  a certificate of ours, shown to it
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from engine.config import EngineConfig, RegistryConfig
from engine.errors import Internal, InvalidArgument
from engine.model.reference import DEFAULT_DOMAIN
from engine.registries.reach import overlap

MAX_DOCUMENT: Final = 4 << 20  # bytes of a manifest or index: distribution-spec's own figure
DEFAULT_HOST: Final = f"index.{DEFAULT_DOMAIN}"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")  # docker takes these without TLS, too
_DOMAIN: Final = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?")
_MAX_PEM: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to ask. ``mirror``: of the operator's choice, gets no credentials and may lack things."""

    url: str  # scheme://host[:port], nothing behind
    verify: bool = True
    mirror: bool = False


def endpoints(settings: RegistryConfig, domain: str, *, mirrors: bool) -> list[Endpoint]:
    """In the order to be tried. ``mirrors``: of the default registry, for what is pulled. Names are looked up: for the courier only."""
    if not _DOMAIN.fullmatch(domain):
        raise InvalidArgument("invalid reference format")
    found = []
    if mirrors and domain == DEFAULT_DOMAIN:
        found += [_mirror(settings, url) for url in settings.mirrors]
    host = host_of(domain)
    if is_insecure(settings, host):
        return [*found, Endpoint(f"https://{host}", verify=False), Endpoint(f"http://{host}", verify=False)]
    return [*found, Endpoint(f"https://{host}")]


def is_insecure(settings: RegistryConfig, domain: str) -> bool:
    """Named so by host[:port], or on loopback or in a network named so."""
    if domain.lower() in settings.insecure:
        return True
    host = urlsplit(f"//{domain}").hostname or ""
    try:
        addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return False  # asking it will say so
    return bool(addresses) and overlap(addresses, (*_LOOPBACK, *settings.insecure))


def authority(url: str) -> str:
    """host[:port] as a folder of certs.d has it."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def host_of(domain: str) -> str:
    return DEFAULT_HOST if domain == DEFAULT_DOMAIN else domain


def certificates(config: EngineConfig, domain: str) -> dict[str, Any]:
    """{"authorities": PEM text, "own": [[certificate, key], …]} of a registry's folder; empty where there is none. Root reads it."""
    folder = config.registry_certificates / domain
    if not _DOMAIN.fullmatch(domain) or domain.strip(".") == "" or not folder.is_dir():
        return {"authorities": "", "own": []}
    authorities = "\n".join(_pem(path) for path in sorted(folder.glob("*.crt")))
    own = []
    for path in sorted(folder.glob("*.cert")):
        key = path.with_suffix(".key")
        if not key.exists():
            raise Internal(f"missing key {key.name} for client certificate {path.name}: CA certificates must use the extension .crt")
        own.append([_pem(path), _pem(key)])
    return {"authorities": authorities, "own": own}


def _pem(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_PEM + 1)
    if len(data) > _MAX_PEM:
        raise Internal(f"{path} is larger than {_MAX_PEM} bytes")
    return data.decode("ascii", "replace")


def _mirror(settings: RegistryConfig, url: str) -> Endpoint:
    parts = urlsplit(url)
    return Endpoint(f"{parts.scheme}://{parts.netloc}", verify=not is_insecure(settings, parts.netloc), mirror=True)
