"""Bandwidth of containers, measured with streams between network namespaces."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, NamedTuple, cast

import pytest

from engine import ceilings
from engine.errors import InvalidArgument
from engine.model.bandwidth import Bandwidth, check_bandwidth, parse_rate, spelled
from engine.model.network import PortBinding
from engine.networks.bridge import links_of
from tests.engine.networks.machine import UPLINK, WORLD, Box, Instance, inside, listen, world
from tests.support.machine import slowness

pytestmark = pytest.mark.requires("root", "nft")

RATE = 5_000_000


def limited(rate: float) -> Any:
    """Never much faster; TCP keeps below what drops its packets, and the more so on a machine that is slow itself."""
    least, most = 0.65 if slowness() < 2 else 0.25, 1.15
    return pytest.approx((least + most) / 2 * rate, abs=(most - least) / 2 * rate)


class Way(NamedTuple):
    """From a namespace to another (a pid in each), by an address and port that lead to ``listens`` there."""

    sender: int
    receiver: int
    address: str
    port: int = 5000
    listens: int = 5000


def carried(sender: Box, receiver: Box) -> float:
    """Bytes a second of one stream."""
    return together(Way(sender.pid, receiver.pid, receiver.endpoint.ip_address))[0]


def together(*ways: Way) -> list[float]:
    """Bytes a second of one stream each, all at the same time, after what the bursts at their beginning let through."""
    with ExitStack() as stack:
        selector, over = stack.enter_context(selectors.DefaultSelector()), threading.Event()
        for number, way in enumerate(ways):
            server = stack.enter_context(inside(way.receiver, partial(listen, way.listens)))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)  # else a reader that was held up finds megabytes of before
            client = stack.enter_context(inside(way.sender, partial(socket.create_connection, (way.address, way.port), timeout=5)))
            selector.register(stack.enter_context(server.accept()[0]), selectors.EVENT_READ, number)
            thread = threading.Thread(target=_send, args=(client, over))
            thread.start()
            stack.callback(thread.join)
            stack.callback(over.set)
        _receive(selector, len(ways), 0.4)
        return _receive(selector, len(ways), 1.5)


def _send(client: socket.socket, over: threading.Event) -> None:
    client.settimeout(0.2)
    while not over.is_set():
        with suppress(TimeoutError):
            client.send(bytes(1 << 16))


def _receive(selector: selectors.BaseSelector, streams: int, seconds: float) -> list[float]:
    counts, began = [0] * streams, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        for key, _ in selector.select(0.1):
            counts[key.data] += len(cast(socket.socket, key.fileobj).recv(1 << 20))
    return [count / (now - began) for count in counts]


@pytest.mark.guest
def test_a_container_talks_as_fast_as_it_may(instance: Instance) -> None:
    box, other = instance.box("alice"), instance.box("alice")
    instance.networks.shape(box.endpoints, Bandwidth(into=RATE, out=2 * RATE))
    assert carried(other, box) == limited(RATE)
    assert carried(box, other) == limited(2 * RATE)
    instance.networks.shape(box.endpoints, Bandwidth(into=0, out=RATE))
    assert carried(other, box) > 3 * RATE
    assert carried(box, other) == limited(RATE)
    instance.networks.shape(box.endpoints, Bandwidth())
    assert carried(box, other) > 3 * RATE
    assert not [name for name in links_of(instance.id) if name[4] == "i"]


def test_the_networks_of_a_tenant_share_what_it_may_have(instance: Instance) -> None:
    """Both ways, a published port among them; what stays in a network and another tenant feel nothing. A bridge that comes back has it."""
    networks, tenant = instance.networks, instance.tenants.ensure("alice")
    own, near, bob = instance.box("alice"), instance.box("alice"), instance.box("bob")
    instance.tenants.ensure("alice", bandwidth=Bandwidth(into=RATE, out=2 * RATE))
    networks.shape_tenants()
    back = instance.box("alice", instance.network("alice", "back"))
    networks.publish(own.id, own.endpoint, [PortBinding(container_port=5000, host_port=18080)])
    with world() as outside:
        out = [Way(own.pid, outside, WORLD), Way(back.pid, outside, WORLD, 5001, 5001)]
        into = [Way(outside, own.pid, UPLINK, 18080), Way(os.getpid(), back.pid, back.endpoint.ip_address)]
        assert sum(together(*out)) == limited(2 * RATE)
        assert sum(together(*into)) == limited(RATE)
        subprocess.run(["ip", "link", "delete", f"{instance.id}b{tenant.number}"], check=True)
        networks.heal()
        *ours, within, bobs = together(
            *into, Way(near.pid, own.pid, own.endpoint.ip_address, 5002, 5002), Way(bob.pid, outside, WORLD, 5003, 5003)
        )
        assert sum(ours) == limited(RATE)
        assert within > 3 * RATE and bobs > 3 * RATE
        ceilings.change(instance.config, "alice", bandwidth_in=RATE // 2)
        instance.tenants.ensure("alice", bandwidth=Bandwidth(into=RATE))
        networks.shape_tenants()
        *ours, more = together(*into, out[1])
        assert sum(ours) == limited(RATE / 2) and more > 6 * RATE
    networks.remove_tenant(tenant)
    instance.tenants.remove("alice")
    networks.shape_tenants()
    assert "rate" not in subprocess.run(["nft", "list", "limits"], capture_output=True, text=True, check=True).stdout


def test_what_is_limited_goes_without_a_trace(instance: Instance) -> None:
    network = instance.network("alice", "back")
    box = instance.box("alice", network)
    instance.networks.shape(box.endpoints, Bandwidth(into=RATE, out=RATE))
    instance.networks.shape(box.endpoints, Bandwidth(into=RATE, out=RATE))
    assert len([name for name in links_of(instance.id) if name[4] == "i"]) == 1
    instance.networks.release(box.id, [network])
    assert not [name for name in links_of(instance.id) if name[4] == "i"]


def test_rates_as_people_write_them() -> None:
    for text, rate in {"10mbit": 1_250_000, "1MB": 10**6, "500kB/s": 500_000, "9000": 9000, "": 0, "0": 0}.items():
        assert parse_rate(text) == rate, text
    assert [spelled(rate) for rate in (0, 1_250_000, 10**6, 9001)] == ["", "1250kB", "1MB", "9001"]
    for text in ("fast", "-1", "1TB", "1gbps", "10 mbit x", "1", "٣MB"):
        with pytest.raises(InvalidArgument):
            parse_rate(text)
    with pytest.raises(InvalidArgument):
        check_bandwidth(Bandwidth(into=5))
