"""Bridges in the kernel: made at the first container of a network, with the gateway's addresses, no way around.

Names: <instance>b<tenant number> of a tenant's default bridge, <instance>bn<number> of a network that a tenant made; at most 15 characters.
The kernel is the only record of which bridges exist.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from pathlib import Path

from engine.kernel import links, netlink
from engine.networks import ipam
from engine.networks.bridged import Bridged

_SYSCTL = Path("/proc/sys/net")
_MTU_DEFAULT = 1500
# route_localnet: a port published on 127.0.0.1 leads here; the firewall lets nobody else use it.
# arp_ignore: the host answers on a bridge for that bridge's address alone, not for each address it has elsewhere.
_SETTINGS = {
    "ipv4/conf/{}/route_localnet": "1",
    "ipv4/conf/{}/arp_ignore": "1",
    "ipv4/conf/{}/rp_filter": "1",
}
_WITHOUT_IPV6 = {"ipv6/conf/{}/disable_ipv6": "1"}
_WITH_IPV6 = {
    "ipv6/conf/{}/accept_ra": "0",
    "ipv6/conf/{}/addr_gen_mode": "1",  # none but those that it is given
    "ipv6/conf/{}/disable_ipv6": "0",
}
_LINK_LOCAL = "fe80::1"  # moby's: whom the host asks for neighbours by


def create(bridge: Bridged) -> None:
    """Takes over one that was left half made. OSError otherwise; one process at a time, under the lock of the networks.

    It goes up last: a bridge that is up is complete.
    """
    try:
        index = links.add_bridge(bridge.link, mac=bridge.mac_address, mtu=bridge.mtu or uplink_mtu())
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        index = socket.if_nametoindex(bridge.link)
    for name, value in {**_SETTINGS, **(_WITH_IPV6 if bridge.ipv6_pool else _WITHOUT_IPV6)}.items():
        try:
            (_SYSCTL / name.format(bridge.link)).write_text(value)
        except FileNotFoundError:
            pass  # a kernel without IPv6
    given = [(pool.gateway, ipam.prefix_length(pool.subnet)) for pool in (bridge.pool, bridge.ipv6_pool) if pool]
    if bridge.ipv6_pool:
        given.append((_LINK_LOCAL, 64))
    with netlink.Socket() as sock:
        sock.run([*(netlink.add_address(index, *each, replace=True) for each in given), netlink.set_up(bridge.link)])


def existing(instance: str) -> dict[str, str]:
    """The bridges of the instance with their IPv4 subnets ("" = none), as the kernel has them: {link: subnet}."""
    subnets = {each.link: str(ipaddress.IPv4Interface((each.address, each.prefix)).network) for each in netlink.addresses()}
    return {name: subnets.get(index, "") for index, name in socket.if_nameindex() if re.fullmatch(rf"{instance}bn?\d+", name)}


def delete(name: str) -> None:
    """Gone already is fine."""
    try:
        links.delete(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def links_of(instance: str) -> list[str]:
    """Every bridge, host end of a veth and ifb of the instance."""
    return [name for _, name in socket.if_nameindex() if re.fullmatch(rf"{instance}(bn?\d+|[vi][0-9a-f]+)", name)]


def uplink_mtu() -> int:
    """Packets must fit the host's own way out: a cloud's overlay or a tunnel has less than 1500."""
    with netlink.Socket() as sock:
        return min([_MTU_DEFAULT, *map(sock.mtu, netlink.default_route_links())])
