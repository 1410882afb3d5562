"""A tenant's default bridge: made at its first container, an address of the subnet for the gateway, no IPv6, no way around.

Names: <instance>b<tenant number>, at most 15 characters. The kernel is the only record of which bridges exist.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from pathlib import Path

from engine.kernel import links, netlink
from engine.model.tenant import TenantHost
from engine.networks import ipam
from engine.networks.firewall import Bridge

_SYSCTL = Path("/proc/sys/net")
_MTU_DEFAULT = 1500
# arp_ignore: the host answers on a bridge for that bridge's address alone, not for each address it has elsewhere.
_SETTINGS = {"ipv4/conf/{}/arp_ignore": "1", "ipv4/conf/{}/rp_filter": "1", "ipv6/conf/{}/disable_ipv6": "1"}


def bridge_of(instance: str, tenant: TenantHost) -> Bridge:
    return Bridge(f"{instance}b{tenant.number}", tenant.subnet)


def create(tenant: TenantHost, bridge: Bridge) -> None:
    """Takes over one that was left half made. OSError otherwise; one process at a time, under the lock of the networks."""
    gateway = ipam.gateway(tenant.subnet)
    try:
        index = links.add_bridge(bridge.name, mac=ipam.mac_address(gateway), mtu=uplink_mtu())
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        index = socket.if_nametoindex(bridge.name)
    for name, value in _SETTINGS.items():
        try:
            (_SYSCTL / name.format(bridge.name)).write_text(value)
        except FileNotFoundError:
            pass  # a kernel without IPv6
    links.open_bridge(index, address=gateway, prefix=ipam.prefix_length(tenant.subnet))


def existing(instance: str) -> list[Bridge]:
    """The bridges of the instance with their subnets, as the kernel has them."""
    found = []
    for network in netlink.ipv4_addresses():
        try:
            name = socket.if_indextoname(network.link)
        except OSError:
            continue  # gone meanwhile
        if re.fullmatch(rf"{instance}b\d+", name):
            found.append(Bridge(name, str(ipaddress.IPv4Interface((network.address, network.prefix)).network)))
    return found


def delete(name: str) -> None:
    """Gone already is fine."""
    try:
        links.delete(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def links_of(instance: str) -> list[str]:
    """Every bridge and host end of a veth of the instance."""
    return [name for _, name in socket.if_nameindex() if re.fullmatch(rf"{instance}(b\d+|v[0-9a-f]+)", name)]


def uplink_mtu() -> int:
    """Packets must fit the host's own way out: a cloud's overlay or a tunnel has less than 1500."""
    with netlink.Socket() as sock:
        return min([_MTU_DEFAULT, *map(sock.mtu, netlink.default_route_links())])
