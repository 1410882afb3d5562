"""A container's end of a network: the value that travels, and the veth pair that makes it real."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from engine.kernel import netlink
from engine.kernel.netns import Opener
from engine.model.network import DEFAULT
from engine.networks import ipam
from engine.networks.bridged import Bridged
from engine.networks.elements import Port

HAS_IPV6 = os.path.exists("/proc/net/if_inet6")
_SETTINGS = Path("/proc/sys/net/ipv6/conf")  # of the network namespace of whoever opens them


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a container has reserved; real only while it runs."""

    ip_address: str  # dotted; "" = it has none
    prefix_len: int
    gateway: str  # the bridge's own address
    mac_address: str  # 02:42:… unless another one was asked for
    link: str  # the host's end of the veth pair
    network_id: str = DEFAULT
    interface: str = "eth0"  # the container's end
    is_way_out: bool = True  # the default route goes by it
    ipv6_address: str = ""  # "" = it has none
    ipv6_prefix_len: int = 0
    ipv6_gateway: str = ""
    is_ipv6_way_out: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.ip_address, self.ipv6_address)))

    def __str__(self) -> str:
        return self.ip_address or self.ipv6_address

    def port(self) -> Port:
        return Port(self.link, self.mac_address, self.ip_address, self.ipv6_address)


def plug(sock: netlink.Socket, opener: Opener, endpoint: Endpoint, *, bridge: Bridged, mtu: int, netns: int, knows_ipv6: bool) -> None:
    """``netns``: fd of the container's network namespace; ``knows_ipv6``: it has IPv6 here or elsewhere. OSError leaves at most the pair,
    which dies with the namespace.

    Two sends in all: one here, one inside. The pair of a container that ends is never deleted by us: that takes 17 to 26 ms of everybody's
    RTNL lock.
    """
    inside_name, link = endpoint.interface, endpoint.link
    outside = [
        netlink.add_veth(link, bridge=sock.index(bridge.link), mtu=mtu, peer=inside_name, peer_mac=endpoint.mac_address, peer_netns=netns)
    ]
    if HAS_IPV6:
        outside.append(netlink.no_ipv6_address(link))
    if not bridge.icc:
        sock.run(outside)
        outside = [netlink.isolate_port(sock.index(link))]
    sock.run([*outside, netlink.set_up(link)])
    if knows_ipv6:
        opener.make(netns, lambda: _allow_ipv6(inside_name, bool(endpoint.ipv6_address)))
    with opener.open(netns) as inside:
        index = inside.index(inside_name)
        steps = [netlink.set_up("lo")]
        if HAS_IPV6:
            steps.append(netlink.no_ipv6_address(inside_name))
        steps.append(netlink.set_up(inside_name))
        if endpoint.ip_address:
            steps.append(netlink.add_address(index, endpoint.ip_address, endpoint.prefix_len))
        if endpoint.ipv6_address:
            steps.append(netlink.add_address(index, ipam.link_local(endpoint.mac_address), 64))
            steps.append(netlink.add_address(index, endpoint.ipv6_address, endpoint.ipv6_prefix_len))
        inside.run([*steps, *(netlink.default_route(index, gateway) for gateway in _ways_out(endpoint))])
    for name in (link, bridge.link):
        sock.settle(name)


def route(opener: Opener, endpoint: Endpoint, *, netns: int) -> None:
    """The default routes whose way out it is go by this one from now on, whatever they went by."""
    with opener.open(netns) as inside:
        index = inside.index(endpoint.interface)
        inside.run([netlink.default_route(index, gateway, replace=True) for gateway in _ways_out(endpoint)])


def _ways_out(endpoint: Endpoint) -> list[str]:
    return [endpoint.gateway] * endpoint.is_way_out + [endpoint.ipv6_gateway] * endpoint.is_ipv6_way_out


def _allow_ipv6(interface: str, allowed: bool) -> None:
    """Called in the container's namespace: its addresses and routes are those that we give it, whoever advertises others. 0.2 ms [m]: an
    interface of a container without IPv6 has no address, which is enough."""
    (_SETTINGS / interface / "accept_ra").write_text("0")
    (_SETTINGS / interface / "disable_ipv6").write_text("0" if allowed else "1")


def free_interface(taken: set[str]) -> str:
    return next(name for number in range(len(taken) + 1) if (name := f"eth{number}") not in taken)
