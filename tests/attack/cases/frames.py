"""A network peer with raw sockets: what it says of itself, and whom it reaches. On a host of its own in a network namespace.

Of its own network an attacker may send what is true about itself; whatever lies must not pass, and to another network nothing does.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from engine.model.network import Pool, PortBinding
from engine.model.rules import Rules, parse
from engine.networks import firewall
from tests.attack.attempt import Who, attempt
from tests.attack.ground import Ground
from tests.engine.networks.machine import UPLINK, WORLD, Box, Instance, inside, listen, own_host, process, reaches, world
from tests.isolation import test_raw_sockets as raw

IN_CI = {
    "ARP for the victim's gateway",
    "the victim's own MAC",
    "a foreign IPv4 address",
    "a router advertisement of its own",
    "two VLAN tags",
}
GUARD = "the guard table of the bridge"
FILTER = "the filter table"


@dataclass
class Segment:
    """Alice's network with a victim and a liar; bob is a stranger. All of it happens in one thread, which is on that host."""

    instance: Instance
    outside: int
    victim: Box
    liar: Box
    stranger: Box

    def table(self, family: str, act: str) -> None:
        subprocess.run(["nft", act, "table", family, f"slipway_{self.instance.id}"], check=True)


class Bench:
    """The segment and its thread."""

    def __init__(self, ground: Ground) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._stack = ExitStack()
        ground.stack.callback(self._close)
        self.segment: Segment = self.run(lambda: self._made(ground))

    def run(self, act: Callable[[], Any]) -> Any:
        return self._thread.submit(act).result()

    def _made(self, ground: Ground) -> Segment:
        self._stack.enter_context(own_host())
        outside = self._stack.enter_context(world())
        instance = Instance(ground.folder / "segment" / "one", self._stack)
        six = {"ipv6_pool": Pool()}
        net = instance.network("alice", "net", **six)
        boxes = (instance.box("alice", net), instance.box("alice", net), instance.box("bob", instance.network("bob", "net", **six)))
        return Segment(instance, outside, *boxes)

    def _close(self) -> None:
        try:
            self.run(self._stack.close)
        finally:
            self._thread.shutdown()


_benches: dict[int, Bench] = {}


def bench(ground: Ground) -> Bench:
    if id(ground) not in _benches:
        _benches[id(ground)] = Bench(ground)
        ground.stack.callback(_benches.pop, id(ground))
    return _benches[id(ground)]


def without(ground: Ground, walled: bool, families: tuple[str, ...], act: Callable[[Segment], str]) -> str:
    """The act on the segment; the tables of these families are away meanwhile when it is not walled."""
    place = bench(ground)

    def run() -> str:
        if not walled:
            for family in families:
                place.segment.table(family, "delete")
        try:
            return act(place.segment)
        finally:
            if not walled and families:
                place.segment.instance.networks.heal()

    return str(place.run(run))


def _frame(each: raw.Attack) -> None:
    slug = re.sub(r"[^a-z0-9]+", "-", each.name.lower().replace("'s", "s")).strip("-")

    def lie(ground: Ground, walled: bool) -> str:
        return without(ground, walled, ("bridge",), lambda s: "the victim received it" if raw.captured(s.victim, s.liar, each) else "")

    def cross(ground: Ground, walled: bool) -> str:
        def act(segment: Segment) -> str:
            return "the victim received it" if raw.captured(segment.victim, segment.stranger if walled else segment.liar, each) else ""

        return without(ground, walled, (), act)

    if each.lies:
        attempt("d", Who.PEER, GUARD, quick=each.name in IN_CI, name=f"frame-{slug}", what=f"{each.name}, in its own network")(lie)
    else:
        what = f"{each.name}, from another tenant's network"
        attempt("d", Who.PEER, "that networks are bridges of their own", quick=each.name in IN_CI, name=f"frame-{slug}", what=what)(cross)


for frame in raw.ATTACKS:
    _frame(frame)


def _routed(name: str, what: str, how: Callable[[Box, Box], Any], quick: bool) -> None:
    def act(ground: Ground, walled: bool) -> str:
        each = raw.Attack(name, how, lies=False)
        found = lambda s: "the victim received it" if raw.captured(s.victim, s.stranger, each) else ""  # noqa: E731
        return without(ground, walled, ("inet", "bridge"), found)

    attempt("d", Who.PEER, FILTER, quick=quick, name=name, what=what)(act)


_routed("routed-to-another-tenant", "a packet to another tenant's container, by the host as its router", raw._by_the_gateway, True)
_routed("routed-to-another-tenant-by-ipv6", "the same by IPv6", raw._six_by_the_gateway, True)


def _reached(segment: Segment, address: str, port: int) -> str:
    return "" if segment.stranger.is_kept_from(address, port) else f"{address}:{port} answered"


@attempt("d", Who.PEER, FILTER, quick=True)
def service_of_the_host_by_the_gateway(ground: Ground, walled: bool) -> str:
    """a service of the host on the address of its own gateway"""

    def act(segment: Segment) -> str:
        with listen(2222):
            return _reached(segment, segment.stranger.endpoint.gateway, 2222)

    return without(ground, walled, ("inet",), act)


@attempt("d", Who.PEER, FILTER, quick=True)
def service_of_the_host_by_another_gateway(ground: Ground, walled: bool) -> str:
    """the same on the address of another tenant's gateway"""

    def act(segment: Segment) -> str:
        with listen(2223):
            return _reached(segment, segment.victim.endpoint.gateway, 2223)

    return without(ground, walled, ("inet",), act)


@attempt("d", Who.PEER, FILTER, quick=True)
def service_of_the_host_by_its_own_address(ground: Ground, walled: bool) -> str:
    """the same on the address that the host has outside"""

    def act(segment: Segment) -> str:
        with listen(2224):
            return _reached(segment, UPLINK, 2224)

    return without(ground, walled, ("inet",), act)


@attempt("d", Who.PEER, FILTER, quick=True)
def container_of_another_tenant(ground: Ground, walled: bool) -> str:
    """a connection to another tenant's container by its address"""

    def act(segment: Segment) -> str:
        with segment.victim.listen(8081):
            return _reached(segment, segment.victim.endpoint.ip_address, 8081)

    return without(ground, walled, ("inet", "bridge"), act)


def _metadata(address: str, cloud: str) -> None:
    def act(ground: Ground, walled: bool) -> str:
        def tried(segment: Segment) -> str:
            command = ["nsenter", "-t", str(segment.outside), "-n", "ip", "address", "replace", f"{address}/32", "dev", "lo"]
            subprocess.run(command, check=True)
            with inside(segment.outside, lambda: listen(80, address)):
                return _reached(segment, address, 80) if reaches(WORLD, 9) or reaches(address, 80) else ""

        return _masqueraded(ground, walled, tried)

    attempt("d", Who.PEER, FILTER, name=f"metadata-of-{cloud}", what=f"the metadata service at {address}")(act)


def _masqueraded(ground: Ground, walled: bool, act: Callable[[Segment], str]) -> str:
    """Without the filter, but with its address translation: else no answer would find its way back."""

    def run(segment: Segment) -> str:
        if not walled:
            chain = "add table ip plain; add chain ip plain out { type nat hook postrouting priority 100; }"
            subprocess.run(["nft", f"{chain}; add rule ip plain out oif uplink masquerade"], check=True)
        try:
            return act(segment)
        finally:
            if not walled:
                subprocess.run(["nft", "delete", "table", "ip", "plain"], check=True)

    return without(ground, walled, ("inet",), run)


_metadata("169.254.169.254", "most-clouds")
_metadata("100.100.100.200", "alibaba")
_metadata("168.63.129.16", "azure")


@attempt("d", Who.PEER, "that the host is router between networks, not within one")
def neighbours_of_the_host(ground: Ground, walled: bool) -> str:
    """packets to a hundred absent neighbours by way of the gateway, which would fill the table that all tenants share"""
    s = raw._scapy()

    def act(segment: Segment) -> str:
        if not walled:
            subprocess.run(["nft", "flush", "set", "inet", f"slipway_{segment.instance.id}", "gateways"], check=True)
        box = segment.stranger
        with inside(box.pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sending:
            inside(box.pid, lambda: sending.bind(("eth0", 0)))
            for number in range(100, 200):
                target = f"{box.endpoint.ip_address.rpartition('.')[0]}.{number}"
                packet = s.IP(src=box.endpoint.ip_address, dst=target) / s.UDP(sport=4000, dport=9)
                sending.send(bytes(raw._ether(box, raw._gateway_mac(box)) / packet))
        found = subprocess.run(["ip", "neighbour", "show"], capture_output=True, text=True, check=True).stdout.count("\n")
        if not walled:
            segment.instance.networks.heal()
        return f"{found} neighbours" if found > 50 else ""

    return without(ground, walled, (), act)


@attempt("d", Who.PEER, "the allow-list")
def published_port_of_another_behind_its_list(ground: Ground, walled: bool) -> str:
    """a published port whose allow-list names others"""

    def act(segment: Segment) -> str:
        networks, box = segment.instance.networks, segment.victim
        networks.publish(box.id, box.endpoint, [PortBinding(container_port=8082, host_port=8082)])
        networks.limit(box.id, box.endpoints, Rules(ingress=parse("tcp 203.0.113.0/24" if walled else None), egress=parse(None)))
        try:
            with box.listen(8082):
                return _reached(segment, UPLINK, 8082)
        finally:
            networks.limit(box.id, box.endpoints, Rules())

    return without(ground, walled, (), act)


@attempt("c", Who.PEER, "the limit of connections of one tenant")
def connections_of_the_whole_host(ground: Ground, walled: bool) -> str:
    """to fill the host's table of connections (here the limit is 10, and the control's 1000)"""
    count = 30

    def run() -> str:
        with ExitStack() as stack, patch.object(firewall, "_connections", lambda: 10 if walled else 1000):
            stack.enter_context(own_host())
            outside = stack.enter_context(world())
            alice = Instance(ground.folder / f"connections{walled}" / "one", stack).box("alice")
            stack.enter_context(inside(outside, lambda: listen(443)))
            opened = 0
            for _ in range(count):
                try:
                    stack.enter_context(inside(alice.pid, lambda: socket.create_connection((WORLD, 443), timeout=1.5)))
                except OSError:
                    break
                opened += 1
            return f"{opened} connections" if opened == count else ""

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


@attempt("a", Who.PEER, "the network namespace", quick=True)
def listeners_of_others(ground: Ground, walled: bool) -> str:
    """/proc/net/tcp: who listens on what, and who talks with whom"""

    def act(segment: Segment) -> str:
        with inside(segment.victim.pid, lambda: listen(31337)), process() as elsewhere:
            pid = elsewhere if walled else segment.victim.pid
            found = inside(pid, lambda: Path("/proc/thread-self/net/tcp").read_text())
            return "a listener of the victim's" if f":{31337:04X}" in found else ""

    return without(ground, walled, (), act)
