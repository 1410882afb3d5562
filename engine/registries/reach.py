"""Which addresses a pull or push may dial: what a container of the tenant's could reach, and what the operator allows besides.

A registry is named by whoever pulls, and its redirects and token service by the registry; this host stands inside walls that the
asker's containers don't pass. So every address is looked at right before it is dialled (a name that means something else the
second time changes nothing): the machine itself, link-local and metadata services and the platform's own networks are refused,
as the firewall refuses them to containers. Private networks are not: containers reach them too, and companies' registries
live there.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from engine.errors import PermissionDenied

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Services of clouds that tell a machine its secrets, as far as they are not link-local anyway.
_METADATA: Final = tuple(
    map(ipaddress.ip_network, ("100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::/64", "fd00:c1::/64"))
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Reach:
    """``allowed``: host[:port] and networks that the operator named; ``closed``: the platform's networks but for ``own``, the tenant's.

    0.0.0.0:PORT and [::]:PORT in ``allowed`` are that port of this machine under every address that it has.
    """

    allowed: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    _networks: tuple[Network, ...] = field(init=False)

    def __post_init__(self) -> None:
        networks = [network for word in self.allowed if (network := as_network(word)) is not None]
        object.__setattr__(self, "_networks", tuple(networks))

    @classmethod
    def from_words(cls, words: dict[str, Any]) -> Self:
        return cls(tuple(words["allowed"]), tuple(words["closed"]), tuple(words["own"]))

    def to_words(self) -> dict[str, Any]:
        return {"allowed": list(self.allowed), "closed": list(self.closed), "own": list(self.own)}

    def check(self, host: str, port: int, found: str) -> None:
        """PermissionDenied unless ``found``, an address that ``host`` means, may be dialled."""
        address = _plain(ipaddress.ip_address(found.partition("%")[0]))
        named = {host.lower(), *(form for name in (host.lower(), str(address)) for form in (f"{name}:{port}", f"[{name}]:{port}"))}
        if named & set(self.allowed):
            return
        if {f"0.0.0.0:{port}", f"[::]:{port}"} & set(self.allowed) and (address.is_loopback or is_local(address)):
            return
        if any(address in network for network in self._networks if network.version == address.version):
            return
        if why := self._why_not(address):
            raise PermissionDenied(
                f"the registry at {host}:{port} is not reachable from this platform: {address} is {why}. "
                f"Its operator can allow it (SLIPWAY_REGISTRIES_ALLOWED={host}:{port})",
                rule="registry",
            )

    def _why_not(self, address: Address) -> str:
        if address.is_loopback or address.is_unspecified:
            return "this machine itself"
        if address.is_link_local or any(address in network for network in _METADATA if network.version == address.version):
            return "a link-local or metadata address"
        if address.is_multicast or address.is_reserved:
            return "no address of a machine"
        if is_local(address):
            return "this machine itself"
        if any(address in ipaddress.ip_network(network) for network in self.own):
            return ""
        if any(address in ipaddress.ip_network(network) for network in self.closed):
            return "in a network of other tenants"
        return ""


def as_network(word: str) -> Network | None:
    """The network that a word of a list is; None: it is the name of a host."""
    try:
        return ipaddress.ip_network(word, strict=False) if "/" in word else None
    except ValueError:
        return None


def is_local(address: Address) -> bool:
    """Whether this machine has the address: what it would send there it would send from there. ip(7); no packet leaves."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
            return bool(ipaddress.ip_address(probe.getsockname()[0]) == address)
        except OSError:
            return False  # no way there: dialling it will say so


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def overlap(addresses: Sequence[str], networks: Sequence[str]) -> bool:
    """Whether one of the addresses lies in one of the networks (words that are hosts' names don't count)."""
    found = [network for word in networks if (network := as_network(word)) is not None]
    plain = [_plain(ipaddress.ip_address(each.partition("%")[0])) for each in addresses]
    return any(address in network for address in plain for network in found if network.version == address.version)
