"""A container's end of its tenant's bridge: the value that travels, and the veth pair that makes it real."""

from __future__ import annotations

import os
from dataclasses import dataclass

from engine.kernel import netlink
from engine.kernel.netns import Opener
from engine.networks.firewall import Port

INSIDE = "eth0"
_HAS_IPV6 = os.path.exists("/proc/net/if_inet6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a container has reserved; real only while it runs."""

    ip_address: str  # dotted
    prefix_len: int
    gateway: str  # the bridge's own address
    mac_address: str  # 02:42:…
    link: str  # the host's end of the veth pair

    def port(self) -> Port:
        return Port(self.link, self.mac_address, self.ip_address)


def plug(sock: netlink.Socket, opener: Opener, endpoint: Endpoint, *, bridge: str, mtu: int, netns: int) -> None:
    """``netns``: fd of the container's network namespace. OSError leaves at most the pair, which dies with the namespace.

    Two sends in all: one here, one inside. The pair is never deleted by us: that takes 17 to 26 ms of everybody's RTNL lock.
    """
    outside = [
        netlink.add_veth(endpoint.link, bridge=sock.index(bridge), mtu=mtu, peer=INSIDE, peer_mac=endpoint.mac_address, peer_netns=netns),
        netlink.set_up(endpoint.link),
    ]
    if _HAS_IPV6:
        outside.insert(1, netlink.no_ipv6_address(endpoint.link))
    sock.run(outside)
    with opener.open(netns) as inside:
        index = inside.index(INSIDE)
        steps = [
            netlink.set_up("lo"),
            netlink.set_up(INSIDE),
            netlink.add_address(index, endpoint.ip_address, endpoint.prefix_len),
            netlink.add_default_route(index, endpoint.gateway),
        ]
        if _HAS_IPV6:
            steps.insert(1, netlink.no_ipv6_address(INSIDE))
        inside.run(steps)
    for name in (endpoint.link, bridge):
        sock.settle(name)
