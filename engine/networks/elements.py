"""What the firewall's sets hold, as nft(8) writes it and as bytes (engine.kernel.nftables.Elements). PURE.

    bridges, pairs, internals                        its bridges; those whose containers reach each other; those that lead nowhere
    subnets, subnets6                                their addresses
    gateways         bridge . MAC                    where a container would have its own network reached by way of the host
    published[6]     protocol . port : address . port                   ports of the host, on every address of it
    addressed[6]     address . protocol . port : address . port         and on one
    closed, closed_at                                those of IPv6 that netd relays, and nobody may come by
    ports[6]         link . MAC . address            who sends what (bridge table)
    targets6         link . MAC . address            what a neighbour advertisement is for: the same, for a field that nft has no type of

With a 6: the same of IPv6.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from engine.kernel import netlink
from engine.networks import ipam

_PROTOCOLS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}
CLOSED: Final = ("closed", "closed_at")
MAPS: Final = ("published", "addressed", "published6", "addressed6")
GUARDS: Final = ("ports", "ports6", "targets6")  # in the bridge table
TARGET: Final = "@nh,384,128"  # of a neighbour advertisement without options before it (RFC 4861); nft 1.0.6 has no name for it


class Bridge(NamedTuple):
    name: str
    subnet: str  # "" = no IPv4
    internal: bool = False
    icc: bool = True
    mac: str = ""
    ipv6_subnet: str = ""


class Port(NamedTuple):
    """A container's end of a bridge. An address "" = it has none of that family."""

    link: str
    mac: str
    address: str
    ipv6_address: str = ""


class Forward(NamedTuple):
    """A published port. ``host_ip`` "" = every address of the host, of the family that ``address`` is of."""

    host_ip: str
    protocol: str
    host_port: int
    address: str
    port: int


class Closed(NamedTuple):
    """A published port that nobody reaches by IPv6. ``host_ip`` "" = on every address of the host."""

    host_ip: str
    protocol: str
    host_port: int


def filled(words: Iterable[str]) -> str:
    joined = ", ".join(words)
    return f"elements = {{ {joined} }}" if joined else ""


def quoted(name: str) -> str:
    return f'"{name}"'


def places(bridge: Bridge) -> list[tuple[str, str]]:
    """(set, element) of each that a bridge is in."""
    name = quoted(bridge.name)
    found = [("bridges", name)]
    if bridge.subnet:
        found.append(("subnets", bridge.subnet))
    if bridge.mac:
        found.append(("gateways", f"{name} . {bridge.mac}"))
    if bridge.ipv6_subnet:
        found.append(("subnets6", bridge.ipv6_subnet))
    if bridge.internal:
        found.append(("internals", name))
    if bridge.icc:
        found.append(("pairs", f"{name} . {name}"))
    return found


def of(bridges: Iterable[Bridge], wanted: str) -> str:
    return filled(element for bridge in bridges for name, element in places(bridge) if name == wanted)


def forwarded(forwards: Iterable[Forward], wanted: str) -> str:
    words = []
    for each in forwards:
        place = f"{each.host_ip} . " if each.host_ip else ""
        if wanted == _map_of(each):
            words.append(f"{place}{each.protocol} . {each.host_port} : {each.address} . {each.port}")
    return filled(dict.fromkeys(words))


def _map_of(forward: Forward) -> str:
    return ("addressed" if forward.host_ip else "published") + ("6" if ":" in forward.address else "")


def closed(ports: Iterable[Closed]) -> dict[str, list[str]]:
    """By set."""
    found: dict[str, dict[str, None]] = {name: {} for name in CLOSED}
    for each in ports:
        place = f"{each.host_ip} . " if each.host_ip else ""
        found["closed_at" if place else "closed"][f"{place}{each.protocol} . {each.host_port}"] = None
    return {name: list(words) for name, words in found.items()}


def mapped(forward: Forward) -> tuple[str, bytes, bytes]:
    """(map, key, value)."""
    place = netlink.packed(forward.host_ip)[1] if forward.host_ip else b""
    key = place + bytes([_PROTOCOLS[forward.protocol], 0, 0, 0]) + _service(forward.host_port)
    return _map_of(forward), key, netlink.packed(forward.address)[1] + _service(forward.port)


def _service(port: int) -> bytes:
    return port.to_bytes(2, "big") + b"\0\0"


def keys(port: Port) -> Iterator[tuple[str, bytes]]:
    """(set, element) of each that lets it talk."""
    place = link_name(port.link) + bytes.fromhex(port.mac.replace(":", "")) + b"\0\0"
    if port.address:
        yield "ports", place + netlink.packed(port.address)[1]
    for address in ipv6_addresses(port):
        for name in ("ports6", "targets6"):
            yield name, place + netlink.packed(address)[1]


def link_name(link: str) -> bytes:
    return link.encode().ljust(netlink.IFNAMSIZ, b"\0")


def ipv6_addresses(port: Port) -> tuple[str, ...]:
    return (port.ipv6_address, ipam.link_local(port.mac)) if port.ipv6_address else ()


def allowed(ports: Iterable[Port]) -> set[tuple[str, str, str]]:
    """(link, MAC, address) of each that may be sent from."""
    return {(port.link, port.mac, address) for port in ports for address in filter(None, (port.address, *ipv6_addresses(port)))}


def guarded(ports: Iterable[Port]) -> dict[str, str]:
    """By set, filled."""
    found: dict[str, list[str]] = {name: [] for name in GUARDS}
    for port in ports:
        place = f"{quoted(port.link)} . {port.mac}"
        if port.address:
            found["ports"].append(f"{place} . {port.address}")
        for address in ipv6_addresses(port):
            found["ports6"].append(f"{place} . {address}")
            found["targets6"].append(f"{place} . {_hex(address)}")
    return {name: filled(words) for name, words in found.items()}


def _hex(address: str) -> str:
    return f"{int(ipaddress.IPv6Address(address)):#034x}"
