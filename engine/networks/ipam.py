"""Addresses of a subnet: which are to give, and the MAC address that belongs to each. Pure.

The first is the gateway, the bridge itself; the rest but IPv4's broadcast address go to containers, in turn, so that none is given
again at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from itertools import chain

GATEWAY_OFFSET = 1
FIRST_OFFSET = 2


def gateway(subnet: str) -> str:
    """Dotted address of the bridge in ``subnet`` (10.128.0.0/20)."""
    return address(subnet, GATEWAY_OFFSET)


def address(subnet: str, offset: int) -> str:
    return str(ipaddress.ip_network(subnet)[offset])


def prefix_length(subnet: str) -> int:
    return ipaddress.ip_network(subnet).prefixlen


def is_inside(subnet: str, dotted: str) -> bool:
    """An address that a container may have there: not the network's own, not the broadcast address."""
    whole, address = ipaddress.ip_network(subnet), ipaddress.ip_address(dotted)
    return address in whole and 0 < int(address) - int(whole.network_address) < _end(whole)


def capacity(subnet: str) -> int:
    """How many containers it has room for."""
    return _end(ipaddress.ip_network(subnet)) - FIRST_OFFSET


def candidates(subnet: str, last: int, *, ip_range: str = "", never: Collection[str] = ()) -> Iterator[tuple[int, str]]:
    """(offset in the subnet, address) of each that may be given, once, beginning behind the offset ``last`` and going round."""
    whole = ipaddress.ip_network(subnet)
    base = int(whole.network_address)
    first, end = 1, _end(whole)
    if ip_range:
        part = ipaddress.ip_network(ip_range)
        first, end = max(first, int(part.network_address) - base), min(end, int(part.broadcast_address) - base + 1)
    begin = last + 1 if first <= last + 1 < end else first
    for offset in chain(range(begin, end), range(first, begin)):
        dotted = str(type(whole.network_address)(base + offset))
        if dotted not in never:
            yield offset, dotted


def mac_address(address: str) -> str:
    """02:42 and the last four bytes of the address, as Docker's: locally administered, unique where the address is, and stable,
    so that neighbours' caches stay right when an address goes to another container."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in ipaddress.ip_address(address).packed[-4:])


def link_local(mac: str) -> str:
    """The IPv6 address that an interface has on its link alone. RFC 4291, appendix A."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]))


def _end(whole: ipaddress.IPv4Network | ipaddress.IPv6Network) -> int:
    """The offset behind the last that may be given: of IPv4 that is the broadcast address."""
    return whole.num_addresses - (1 if whole.version == 4 else 0)
