"""Connections are forgotten by their addresses, on every kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from engine.kernel.conntrack import Conntrack
from engine.model.network import Pool, PortBinding
from tests.engine.networks.machine import UPLINK6, WORLD, WORLD6, Instance, inside, ipv6_world, world

pytestmark = [pytest.mark.requires("root", "nft"), pytest.mark.guest]


@pytest.fixture
def outside(host: None) -> Iterator[int]:
    with world() as pid:
        ipv6_world(pid)
        yield pid


@pytest.mark.parametrize("by_filter", [True, False])
def test_what_an_address_has_begun_and_what_was_led_to_it_ends(instance: Instance, outside: int, by_filter: bool) -> None:
    net = instance.network("alice", "net", ipv6_pool=Pool())
    one, other = instance.box("alice", net), instance.box("alice", net)
    ports = [PortBinding(container_port=53, protocol="udp", host_port=45053)]
    instance.networks.publish(one.id, one.endpoint, ports, ipv6=one.endpoint)
    conntrack = Conntrack()
    conntrack._by_filter = by_filter
    ways = ((socket.AF_INET, WORLD, "127.0.0.1"), (socket.AF_INET6, WORLD6, UPLINK6))
    for (family, far, here), mine, his in zip(ways, one.endpoint.addresses, other.endpoint.addresses, strict=True):
        for box in (one, other):
            with inside(box.pid, lambda family=family: socket.socket(family, socket.SOCK_DGRAM)) as sock:  # type: ignore[misc]
                sock.sendto(b"x", (far, 4000))
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (here, 45053))
        assert (len(conntrack.of(mine)), len(conntrack.of(his))) == (2, 1)
        conntrack.forget(mine)
        conntrack.forget(mine)
        assert (len(conntrack.of(mine)), len(conntrack.of(his))) == (0, 1)
    conntrack.close()
