"""Addresses of a subnet: which are to give, and the MAC address that belongs to each. Pure.

The first is the gateway, the bridge itself; the rest but the broadcast address go to containers, in turn, so that none is given
again at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

GATEWAY_OFFSET = 1
FIRST_OFFSET = 2


def gateway(subnet: str) -> str:
    """Dotted address of the bridge in ``subnet`` (10.128.0.0/20)."""
    return address(subnet, GATEWAY_OFFSET)


def address(subnet: str, offset: int) -> str:
    return str(ipaddress.IPv4Network(subnet)[offset])


def offset_of(subnet: str, dotted: str) -> int:
    """The opposite of ``address``."""
    return int(ipaddress.IPv4Address(dotted)) - int(ipaddress.IPv4Network(subnet).network_address)


def prefix_length(subnet: str) -> int:
    return ipaddress.IPv4Network(subnet).prefixlen


def capacity(subnet: str) -> int:
    """How many containers it has room for."""
    return ipaddress.IPv4Network(subnet).num_addresses - FIRST_OFFSET - 1


def offsets_after(subnet: str, last: int) -> Iterator[int]:
    """Every offset once, beginning with the one after ``last`` and going round."""
    count = capacity(subnet)
    start = (last + 1 - FIRST_OFFSET) % count
    for step in range(count):
        yield FIRST_OFFSET + (start + step) % count


def mac_address(dotted: str) -> str:
    """02:42 and the four bytes of the address, as Docker's: locally administered, unique where the address is, and stable,
    so that neighbours' ARP caches stay right when an address goes to another container."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(dotted).packed)
