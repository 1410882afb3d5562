"""What no network of a tenant's choosing may cover: all bridges share the host's routing table, so a subnet takes its addresses from it.

An address that the host reaches by its default route is as good as one on a link of its own: its name servers, its peers, the private
network around it (of a cloud, say, of which it has a part on its link). An administrator allows less: SLIPWAY_SUBNETS.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from engine.claims import host_networks
from engine.model.network import Subnet, is_within
from engine.networks import resolve

_AROUND: Final = (  # a private address of the host's, and how much around it is its network's
    (ipaddress.IPv4Network("10.0.0.0/8"), 16),
    (ipaddress.IPv4Network("172.16.0.0/12"), 16),
    (ipaddress.IPv4Network("192.168.0.0/16"), 24),
    (ipaddress.IPv6Network("fc00::/7"), 48),
)
_TCP: Final = (Path("/proc/thread-self/net/tcp"), Path("/proc/thread-self/net/tcp6"))
_MAPPED: Final = "0000000000000000FFFF0000"  # ::ffff:0:0/96, as /proc/net/tcp6 writes it


def kept_free(version: int, own: Collection[Subnet]) -> Iterator[Subnet]:
    """``own``: the instance's networks, which are routes of the host as well, and no reason."""
    ours = set(own)
    for network in host_networks(version):
        if network.prefixlen < 8 or network in ours:
            continue
        yield network
        if not any(is_within(network, block) for block in ours):
            yield from _around(network)
    for host in map(ipaddress.ip_network, (*resolve.nameservers(), *_peers())):
        if host.version == version and not any(is_within(host, block) for block in ours):  # a container's
            yield host
            yield from _around(host)


def _around(network: Subnet) -> Iterator[Subnet]:
    for private, prefix in _AROUND:
        if is_within(network, private) and network.prefixlen > prefix:
            yield network.supernet(new_prefix=prefix)


def _peers() -> Iterator[str]:
    """Whom the host has TCP connections with. proc_net_tcp: local address, remote address, state; hexadecimal, in the host's byte order."""
    for path in _TCP:
        try:
            lines = path.read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            remote = line.split()[2].partition(":")[0]
            digits = remote.removeprefix(_MAPPED) if len(remote) > 8 else remote
            if int(digits, 16):
                words = [int(digits[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(digits), 8)]
                yield str(ipaddress.ip_address(b"".join(words)))
