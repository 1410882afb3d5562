"""Words in which something is granted to a tenant: by root of a host (engine.ceilings) and, within that, by the panel's policy
(controlpanel.tenants.policy). PURE.

A list is empty: nothing; ``("all",)``: everything; or names what is granted:

    capabilities   NET_ADMIN                       beyond those that Docker gives every container
    devices        /dev/fuse, /dev/fuse:rw         without letters r, w and m
    registries     HOST, HOST:5000                 as an image's name begins
    ports          8000-8999, 443                  of the host
    addresses      127.0.0.1, 203.0.113.0/24       of the host
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from engine.errors import InvalidArgument, PermissionDenied
from engine.model import capabilities
from engine.model.container import ContainerSpec
from engine.model.network import PortBinding
from engine.model.reference import Reference

ALL: Final = "all"
EVERYTHING: Final = (ALL,)
EVERY_PORT: Final = (1, 65535)
EVERYBODYS_DEVICES: Final = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))
_DEVICE: Final = re.compile(r"/dev/[A-Za-z0-9_][A-Za-z0-9_./-]*(?::[rwm]{1,3})?")

Words = tuple[str, ...]
Ranges = tuple[tuple[int, int], ...]


# -- the words ---------------------------------------------------------------------------------------


def check_device(word: str) -> str:
    if not _DEVICE.fullmatch(word) or ".." in word:
        raise InvalidArgument(f"invalid device {word!r}: use /dev/NAME or /dev/NAME:rwm")
    return word


def check_capability(word: str) -> str:
    """Without CAP_, as Docker's options have it."""
    return capabilities.full_name(word, "capability").removeprefix("CAP_")


def check_registry(word: str) -> str:
    try:
        if Reference.parse(f"{word.lower()}/x").domain == word.lower():
            return word.lower()
    except InvalidArgument:
        pass
    raise InvalidArgument(f"invalid registry {word!r}: use HOST or HOST:PORT, as an image's name begins")


def check_address(word: str) -> str:
    try:
        return str(ipaddress.ip_network(word) if "/" in word else ipaddress.ip_address(word))
    except ValueError:
        raise InvalidArgument(f"invalid address {word!r}: use an address of the host, or a network that they lie in") from None


def check_ports(word: str) -> str:
    first, dash, last = word.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in (first, last if dash else first)):
        raise InvalidArgument(f"invalid ports {word!r}: use 8000-8999 or 443")
    if not 1 <= int(first) <= int(last if dash else first) <= 65535:
        raise InvalidArgument(f"invalid ports {word!r}: ports are from 1 to 65535")
    return word


CHECKS: Final[Mapping[str, Callable[[str], str]]] = {
    "capabilities": check_capability,
    "devices": check_device,
    "registries": check_registry,
    "ports": check_ports,
    "addresses": check_address,
}


def checked(kind: str, words: Iterable[str]) -> Words:
    """In their own spelling, each once. Of a device the last letters count; ``all`` stands for all others."""
    given = [word.strip() for word in words if word.strip()]
    named = [CHECKS[kind](word) for word in given if word.lower() != ALL]
    return EVERYTHING if len(named) < len(given) else tuple({key(kind, word): word for word in named}.values())


def key(kind: str, word: str) -> str:
    """What two words of a list must not both be about."""
    return word.partition(":")[0] if kind == "devices" else word


def parse_list(kind: str, text: str) -> Words:
    """``all``, ``none``, or words with commas between them."""
    return () if text.strip() == "none" else checked(kind, text.split(","))


# -- what they hold ----------------------------------------------------------------------------------


def capabilities_beyond(spec: ContainerSpec, granted: Collection[str]) -> list[str]:
    """Those that a container asks for and that are neither everybody's nor granted; ``ALL`` stands for many."""
    if ALL in granted:
        return []
    have = capabilities.effective(spec.cap_add, spec.cap_drop)
    beyond = [name for name in have if name not in capabilities.DEFAULT and name.removeprefix("CAP_") not in granted]
    if beyond and any(word.upper() == "ALL" for word in spec.cap_add):
        return ["ALL"]
    return [name.removeprefix("CAP_") for name in beyond]


def device_letters(device: str, granted: Iterable[str]) -> str:
    """Some of r, w and m; "" for none."""
    for word in granted:
        path, _, letters = word.partition(":")
        if path in (device, ALL):
            return letters or "rwm"
    return ""


def holds_registry(domain: str, granted: Collection[str]) -> bool:
    return ALL in granted or domain.lower() in granted


def ranges(words: Iterable[str]) -> Ranges:
    """First and last port of each."""
    return tuple(EVERY_PORT if word == ALL else (int(word.partition("-")[0]), int(word.rpartition("-")[2])) for word in words)


def holds_ports(granted: Iterable[tuple[int, int]], first: int, last: int) -> bool:
    """Whether all of first to last lie in one of them."""
    return any(low <= first and last <= high for low, high in granted)


def holds_address(address: str, granted: Sequence[str]) -> bool:
    """``address`` "": every one that the host has."""
    if ALL in granted or address in granted:
        return True
    if not address:
        return False
    asked = ipaddress.ip_address(address)
    return not asked.is_unspecified and any(asked in ipaddress.ip_network(word) for word in granted)


def on_granted_address(port: PortBinding, granted: Sequence[str]) -> PortBinding:
    """A port of "every address" is one of the first address that is granted by itself."""
    alone = next((word for word in granted if word != ALL and "/" not in word), "")
    return port if port.host_ip or ALL in granted or not alone else replace(port, host_ip=alone)


def not_in_policy(tenant: str, item: str, what: str) -> PermissionDenied:
    """``what``: "privileged containers are"."""
    return PermissionDenied(
        f"{what} not allowed in tenant {tenant}: rule policy.{item} (an operator of the platform can allow it)", rule=f"policy.{item}"
    )
