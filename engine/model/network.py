"""Networks as they travel between floors: one of a tenant (NetworkSpec), a container's part in it (EndpointSpec, EndpointState), and the
ports of the host that lead to a container (PortBinding).

A tenant's default bridge and "none" have no NetworkSpec: every tenant has them. The default bridge is the network with id "".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from engine.errors import InvalidArgument
from engine.model.rules import Rules

DEFAULT: Final = ""  # network_id of the tenant's default bridge
IPV6_MTU: Final = 1280  # RFC 8200: with less the kernel does without IPv6
PORTS_MAX: Final = 1000  # of all containers of a tenant
PROTOCOLS: Final = ("tcp", "udp", "sctp")
_ID: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ALIAS: Final = re.compile(r"[a-zA-Z0-9_.-]{1,253}")
HOST: Final = "host"  # a mode: the machine's own network namespace
RESERVED_NAMES: Final = ("bridge", "host", "none", "default")


Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Docker's IPAM config, of one family of addresses. "" = the host chooses."""

    subnet: str = ""  # 172.28.0.0/16
    gateway: str = ""
    ip_range: str = ""  # part of the subnet that automatic addresses come from
    reserved: tuple[str, ...] = ()  # addresses that are given to nobody: Docker's AuxiliaryAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A bridge network that a tenant made; immutable but for its rules. What the host chose is filled in by its answer."""

    id: str  # 64 hex digits, chosen by whoever asks
    tenant: str
    name: str
    pool: Pool | None = field(default_factory=Pool)  # None = its containers have no IPv4
    ipv6_pool: Pool | None = None  # None = its containers have no IPv6
    internal: bool = False  # no way out of it and none in
    icc: bool = True  # its containers reach each other
    mtu: int = 0  # 0 = the host's
    rules: Rules = field(default_factory=Rules)  # may change
    shown: dict[str, Any] = field(default_factory=dict)  # kept for the panel: labels, options, created, as it shows them


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """That a container is in a network, and how it was asked for."""

    network_id: str = DEFAULT
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()  # "<container id>:alias": the name by which this container alone knows another
    ip_address: str = ""  # "" = the next free one
    ipv6_address: str = ""
    mac_address: str = ""  # "" = from the address
    gw_priority: int = 0  # the default route goes by the network with the greatest; among equals by the first name


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """``ip_address`` and what follows are "" (0) unless the container runs."""

    spec: EndpointSpec
    interface: str = ""  # eth0
    ip_address: str = ""
    prefix_len: int = 0
    gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix_len: int = 0
    ipv6_gateway: str = ""
    mac_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBinding:
    """A port of the host that leads to one of the container's. Asked for: ``host_port`` 0 is any free one, and with ``host_port_end`` the
    first free one of the range. In a state: the one it got."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""  # "" = every address of the host, IPv4 and IPv6
    host_port: int = 0
    host_port_end: int = 0  # 0 = no range


def check_network_id(network_id: str) -> str:
    if not _ID.fullmatch(network_id):
        raise InvalidArgument(f"invalid network id {network_id!r}: use 64 hexadecimal digits")
    return network_id


def check_network(spec: NetworkSpec) -> None:
    """InvalidArgument for what no host could do; what overlaps, the host knows."""
    check_network_id(spec.id)
    if not _NAME.fullmatch(spec.name) or len(spec.name) > 255:
        raise InvalidArgument(
            f'invalid network name "{spec.name}": must start with a letter or a number, and only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed'
        )
    if spec.mtu and not 68 <= spec.mtu <= 65535:
        raise InvalidArgument(f"invalid MTU {spec.mtu}: must be between 68 and 65535")
    if spec.pool is None and spec.ipv6_pool is None:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")
    if spec.pool is not None:
        check_pool(spec.pool, 4)
    if spec.ipv6_pool is not None:
        if spec.mtu and spec.mtu < IPV6_MTU:
            raise InvalidArgument(f"invalid MTU {spec.mtu}: IPv6 needs at least {IPV6_MTU}")
        check_pool(spec.ipv6_pool, 6)


def check_pool(pool: Pool, version: int) -> None:
    if not pool.subnet:
        if pool.gateway or pool.ip_range or pool.reserved:
            raise InvalidArgument("every ip-range, gateway or aux-address must have a corresponding subnet")
        return
    subnet = _subnet(pool.subnet, "subnet", version)
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        raise InvalidArgument(f"invalid subnet {pool.subnet}: it has no room for containers")
    if pool.ip_range and not is_within(_subnet(pool.ip_range, "ip-range", version), subnet):
        raise InvalidArgument(f"invalid ip-range {pool.ip_range}: it is outside of subnet {pool.subnet}")
    for address in (pool.gateway, *pool.reserved) if pool.gateway else pool.reserved:
        if _address(address, version) not in subnet:
            raise InvalidArgument(f"no matching subnet for address {address}")


def check_endpoint(endpoint: EndpointSpec) -> None:
    if endpoint.network_id != DEFAULT:
        check_network_id(endpoint.network_id)
    if endpoint.ip_address:
        _address(endpoint.ip_address, 4)
    if endpoint.ipv6_address:
        _address(endpoint.ipv6_address, 6)
    if endpoint.mac_address and not _MAC.fullmatch(endpoint.mac_address):
        raise InvalidArgument(f"invalid MAC address: {endpoint.mac_address}")
    if endpoint.mac_address and int(endpoint.mac_address[:2], 16) & 1:
        raise InvalidArgument(f"invalid MAC address {endpoint.mac_address}: it is a multicast address")
    for alias in endpoint.aliases:
        if not _ALIAS.fullmatch(alias):
            raise InvalidArgument(f"invalid network alias {alias!r}")
    for link in endpoint.links:
        container, _, alias = link.partition(":")
        if not _ID.fullmatch(container) or not _ALIAS.fullmatch(alias):
            raise InvalidArgument(f"invalid link {link!r}")


def check_port(port: PortBinding) -> None:
    if port.protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {port.protocol}")
    end = port.host_port_end or port.host_port
    if not 1 <= port.container_port <= 65535 or not 0 <= port.host_port <= end <= 65535 or (port.host_port_end and not port.host_port):
        raise InvalidArgument(f"invalid port specification: {port.host_port}-{end}:{port.container_port}")
    if port.host_ip:
        try:
            _parse(ipaddress.ip_address, port.host_ip)
        except ValueError:
            raise InvalidArgument(f"invalid IP address: {port.host_ip}") from None


def is_within(inner: Subnet, outer: Subnet) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _parse(kind: Callable[[str], T], text: str) -> T:
    """An address or a network by ipaddress, which takes anything at all for the zone behind a "%": here is none. ValueError."""
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    return kind(text)


def _subnet(text: str, what: str, version: int) -> Subnet:
    try:
        subnet = _parse(ipaddress.ip_network, text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what} {text}: {error}") from None
    if subnet.version != version:
        raise InvalidArgument(f"invalid {what} {text}: it is not IPv{version}")
    return subnet


def _address(text: str, version: int) -> Address:
    try:
        address = _parse(ipaddress.ip_address, text)
        if address.version == version:
            return address
    except ValueError:
        pass
    raise InvalidArgument(f"invalid IPv{version} address: {text}")
