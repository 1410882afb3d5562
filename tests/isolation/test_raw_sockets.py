"""A hostile tenant with raw sockets: whatever frame its root sends, no other tenant's container gets to see it.

Each attack is first tried where it must pass, on the victim's own network with the anti-spoofing table away: a capture that shows it
there would show it anywhere. Then from another network of the same tenant, and from another tenant's, where the capture stays empty; and
what lies about its sender stays out of its own network, too.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from engine.model.network import Pool
from engine.networks import ipam
from tests.engine.networks.machine import UPLINK, WORLD, Box, Instance, inside, own_host

pytestmark = pytest.mark.requires("root", "nft")

MARK = b"slipway-raw-socket-test"
ETH_P_ALL = 3
ETH_ARP = 0x0806
PACKET_OUTGOING = 4  # linux/if_packet.h
CAPTURE_S = 0.15
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.fixture
def instance(tmp_path: Any) -> Any:
    from contextlib import ExitStack

    with own_host(), ExitStack() as stack:
        yield Instance(tmp_path / "instance", stack)


@dataclass(frozen=True)
class Attack:
    name: str
    frame: Callable[[Box, Box], Any]  # attacker, victim
    lies: bool  # about its sender: then it must not even reach its own network


def _scapy() -> Any:
    import scapy.all as scapy  # a second, and only here

    return scapy


def _ether(source: Box, target: str, **words: Any) -> Any:
    return _scapy().Ether(src=words.pop("src", source.endpoint.mac_address), dst=target, **words)


def _arp(attacker: Box, victim: Box, *, mac: str, address: str) -> Any:
    s = _scapy()
    claim = s.ARP(op=2, hwsrc=mac, psrc=address, hwdst=victim.endpoint.mac_address, pdst=victim.endpoint.ip_address)
    return _ether(attacker, victim.endpoint.mac_address, src=mac) / claim / s.Raw(MARK)


def _udp(attacker: Box, victim: Box, *, src: str = "", mac: str = "", to: str = "", dst: str = "", port: int = 9) -> Any:
    s = _scapy()
    packet = s.IP(src=src or attacker.endpoint.ip_address, dst=dst or victim.endpoint.ip_address) / s.UDP(sport=4000, dport=port)
    return _ether(attacker, to or victim.endpoint.mac_address, src=mac or attacker.endpoint.mac_address) / packet / s.Raw(MARK)


def _ipv6(attacker: Box, victim: Box, payload: Any, dst: str = "ff02::1") -> Any:
    s = _scapy()
    return _ether(attacker, "33:33:00:00:00:01") / s.IPv6(src="fe80::bad", dst=dst) / payload / s.Raw(MARK)


def _router_advertisement(attacker: Box, victim: Box) -> Any:
    s = _scapy()
    prefix = s.ICMPv6NDOptPrefixInfo(prefix="fd00:bad::", prefixlen=64)
    return _ether(attacker, "33:33:00:00:00:01") / s.IPv6(src="fe80::bad", dst="ff02::1") / s.ICMPv6ND_RA() / prefix / s.Raw(MARK)


def _own_link(box: Box) -> str:
    return ipam.link_local(box.endpoint.mac_address)


def _six(box: Box) -> str:
    """Its IPv6 address; of one without, an invented one."""
    return box.endpoint.ipv6_address or "fd00::bad"


def _told(source: str, payload: Callable[[Any], Any], dst: str = "ff02::1") -> Callable[[Box, Box], Any]:
    """To all nodes, in IPv6. ``source``: whose address it says it comes from."""

    def frame(attacker: Box, victim: Box) -> Any:
        s = _scapy()
        sources = {
            "own": _six(attacker),
            "link": _own_link(attacker),
            "victim": _six(victim),
            "victim's link": _own_link(victim),
            "gateway": victim.endpoint.ipv6_gateway,
            "nobody": "::",
        }
        body = payload({"s": s, "attacker": attacker, "victim": victim})
        return _ether(attacker, "33:33:00:00:00:01") / s.IPv6(src=sources[source], dst=dst, hlim=255) / body / s.Raw(MARK)

    return frame


def _advertised(of: Callable[[Any], str]) -> Callable[[Any], Any]:
    """A neighbour advertisement for that address, by the sender's MAC."""
    return lambda c: c["s"].ICMPv6ND_NA(tgt=of(c), R=0, S=0, O=1) / c["s"].ICMPv6NDOptDstLLAddr(lladdr=c["attacker"].endpoint.mac_address)


def _router(c: Any) -> Any:
    return c["s"].ICMPv6ND_RA() / c["s"].ICMPv6NDOptPrefixInfo(prefix="fd00:bad::", prefixlen=64)


def _behind_options(payload: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda c: c["s"].IPv6ExtHdrDestOpt(options=[c["s"].PadN(optdata=b"\0" * 4)]) / payload(c)


def _six_by_the_gateway(attacker: Box, victim: Box) -> Any:
    s = _scapy()
    packet = s.IPv6(src=_six(attacker), dst=_six(victim)) / s.UDP(sport=4000, dport=9)
    return _ether(attacker, _gateway_mac(attacker)) / packet / s.Raw(MARK)


def _dhcp_offer(attacker: Box, victim: Box) -> Any:
    s = _scapy()
    offer = s.BOOTP(op=2, yiaddr="10.66.66.66") / s.DHCP(options=[("message-type", "offer"), ("router", "10.66.66.1"), "end"])
    head = _ether(attacker, BROADCAST) / s.IP(src=attacker.endpoint.ip_address, dst="255.255.255.255")
    return head / s.UDP(sport=67, dport=68) / offer / s.Raw(MARK)


def _by_the_gateway(attacker: Box, victim: Box) -> Any:
    """Routed: to the bridge's own MAC, for the victim's address."""
    return _udp(attacker, victim, to=_gateway_mac(attacker))


def _gateway_mac(box: Box) -> str:
    return "02:42:" + ":".join(f"{int(part):02x}" for part in box.endpoint.gateway.split("."))


ATTACKS = [
    Attack("ARP for the victim's gateway", lambda a, v: _arp(a, v, mac=a.endpoint.mac_address, address=v.endpoint.gateway), lies=True),
    Attack("ARP for the victim itself", lambda a, v: _arp(a, v, mac=a.endpoint.mac_address, address=v.endpoint.ip_address), lies=True),
    Attack("ARP with a foreign MAC", lambda a, v: _arp(a, v, mac="02:42:de:ad:be:ef", address=a.endpoint.ip_address), lies=True),
    Attack("a foreign MAC", lambda a, v: _udp(a, v, mac="02:42:de:ad:be:ef"), lies=True),
    Attack("the victim's own MAC", lambda a, v: _udp(a, v, mac=v.endpoint.mac_address, to=BROADCAST), lies=True),
    Attack("a foreign IPv4 address", lambda a, v: _udp(a, v, src="203.0.113.66"), lies=True),
    Attack("the gateway's IPv4 address", lambda a, v: _udp(a, v, src=v.endpoint.gateway), lies=True),
    Attack("the host's IPv4 address", lambda a, v: _udp(a, v, src=UPLINK), lies=True),
    Attack("a broadcast", lambda a, v: _udp(a, v, to=BROADCAST, dst="255.255.255.255"), lies=False),
    Attack("a multicast", lambda a, v: _udp(a, v, to="01:00:5e:00:00:fb", dst="224.0.0.251", port=5353), lies=False),
    Attack("a DHCP offer", _dhcp_offer, lies=False),
    Attack("straight to its MAC", _udp, lies=False),
    Attack("a router advertisement", _router_advertisement, lies=True),
    Attack("IPv6 to all nodes", lambda a, v: _ipv6(a, v, _scapy().ICMPv6EchoRequest()), lies=True),
    Attack(
        "a neighbour advertisement",
        lambda a, v: _ipv6(a, v, _scapy().ICMPv6ND_NA(tgt="fe80::1", R=1, O=1) / _scapy().ICMPv6NDOptDstLLAddr(lladdr="02:42:de:ad:be:ef")),
        lies=True,
    ),
    Attack("IPv6 to all nodes from its own address", _told("own", lambda c: c["s"].ICMPv6EchoRequest()), lies=False),
    Attack("IPv6 from its own link-local one", _told("link", lambda c: c["s"].ICMPv6EchoRequest()), lies=False),
    Attack("IPv6 from the victim's", _told("victim", lambda c: c["s"].ICMPv6EchoRequest()), lies=True),
    Attack("IPv6 from the victim's link-local one", _told("victim's link", lambda c: c["s"].ICMPv6EchoRequest()), lies=True),
    Attack("IPv6 from the gateway's", _told("gateway", lambda c: c["s"].ICMPv6EchoRequest()), lies=True),
    Attack("IPv6 from nobody", _told("nobody", lambda c: c["s"].ICMPv6ND_NS(tgt=_six(c["victim"]))), lies=True),
    Attack("a neighbour advertisement of its own", _told("own", _advertised(lambda c: _six(c["attacker"]))), lies=False),
    Attack("one of its link-local address", _told("link", _advertised(lambda c: _own_link(c["attacker"]))), lies=False),
    Attack("one for the victim", _told("own", _advertised(lambda c: _six(c["victim"]))), lies=True),
    Attack("one for the gateway", _told("link", _advertised(lambda c: c["victim"].endpoint.ipv6_gateway)), lies=True),
    Attack("one for the gateway's link-local address", _told("link", _advertised(lambda c: "fe80::1")), lies=True),
    Attack("one behind options", _told("own", _behind_options(_advertised(lambda c: _six(c["victim"])))), lies=True),
    Attack("a router advertisement of its own", _told("link", _router), lies=True),
    Attack("one behind options, too", _told("link", _behind_options(_router)), lies=True),
    Attack("a redirect", _told("link", lambda c: c["s"].ICMPv6ND_Redirect(tgt=_own_link(c["attacker"]), dst="2001:db8::7")), lies=True),
    Attack("a multicast query", _told("link", lambda c: c["s"].ICMPv6MLQuery()), lies=True),
    Attack("a VLAN tag", lambda a, v: _tagged(a, v, 1), lies=True),
    Attack("two VLAN tags", lambda a, v: _tagged(a, v, 2), lies=True),
    Attack("an unknown protocol", lambda a, v: _ether(a, v.endpoint.mac_address, type=0x88B5) / _scapy().Raw(MARK * 3), lies=True),
]


def _tagged(attacker: Box, victim: Box, tags: int) -> Any:
    s = _scapy()
    frame = _ether(attacker, victim.endpoint.mac_address)
    for number in range(tags):
        frame /= s.Dot1Q(vlan=number)
    packet = s.IP(src=attacker.endpoint.ip_address, dst=victim.endpoint.ip_address) / s.UDP(sport=4000, dport=9)
    return frame / packet / s.Raw(MARK)


def _own(box: Box) -> dict[str, Any]:
    return {"op": 2, "hwsrc": box.endpoint.mac_address, "psrc": box.endpoint.ip_address, "pdst": box.endpoint.ip_address}


def captured(victim: Box, attacker: Box, *attacks: Attack) -> bool:
    """Whether the mark of any gets to the victim's interface: all that it receives, before any of its own rules."""
    frames = [bytes(attack.frame(attacker, victim)) for attack in attacks]
    assert all(MARK in frame for frame in frames)
    listening = inside(victim.pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
    sending = inside(attacker.pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    with listening, sending:
        inside(victim.pid, lambda: listening.bind(("eth0", ETH_P_ALL)))
        inside(attacker.pid, lambda: sending.bind(("eth0", 0)))
        listening.send(bytes(_ether(victim, BROADCAST, type=ETH_ARP) / _scapy().ARP(**_own(victim))))  # the bridge knows again where it is
        for frame in frames * 3:
            sending.send(frame)
        deadline = time.monotonic() + CAPTURE_S
        while (left := deadline - time.monotonic()) > 0:
            listening.settimeout(left)
            try:
                if MARK in listening.recv(4096):
                    return True
            except TimeoutError:
                break
    return False


def test_frames_of_a_hostile_tenant(instance: Instance) -> None:
    six = {"ipv6_pool": Pool()}
    net = instance.network("alice", "net", **six)
    victim, liar = instance.box("alice", net), instance.box("alice", net)
    beside = instance.box("alice", instance.network("alice", "beside", **six))
    stranger, usual = instance.box("bob", instance.network("bob", "net", **six)), instance.box("bob")
    routed = [Attack(f"routed by the gateway, {how.__name__}", how, lies=False) for how in (_by_the_gateway, _six_by_the_gateway)]

    def outcome(attacker: Box) -> list[str]:
        return [attack.name for attack in ATTACKS if captured(victim, attacker, attack)]

    assert outcome(liar) == [attack.name for attack in ATTACKS if not attack.lies], "of its own network: who tells the truth"
    for attacker in (beside, stranger, usual):
        assert not captured(victim, attacker, *ATTACKS, *routed)

    subprocess.run(["nft", "delete", "table", "bridge", f"slipway_{instance.id}"], check=True)
    assert outcome(liar) == [attack.name for attack in ATTACKS], "the control: without the table each of them passes"
    for attacker in (beside, stranger, usual):
        assert not captured(victim, attacker, *ATTACKS), "of another network none does even then: there is no bridge between them"
    subprocess.run(["nft", "delete", "table", "inet", f"slipway_{instance.id}"], check=True)
    assert all(captured(victim, stranger, attack) for attack in routed), "the control of the routed ones"
    instance.networks.heal()
    assert outcome(liar) == [attack.name for attack in ATTACKS if not attack.lies]


def test_nobody_fills_the_hosts_table_of_neighbours(instance: Instance) -> None:
    """By sending to each address of its own network by way of the gateway, which would look for it."""
    box, other = (instance.box("alice", instance.network("alice", "net", ipv6_pool=Pool())) for _ in range(2))
    s = _scapy()
    places = [(s.IP, box.endpoint.ip_address, "."), (s.IPv6, _six(box), ":")]

    def neighbours() -> int:
        for kind, own, dot in places:
            for number in range(100, 200):
                packet = kind(src=own, dst=f"{own.rpartition(dot)[0]}{dot}{number}") / s.UDP(sport=4000, dport=9)
                sending.send(bytes(_ether(box, _gateway_mac(box)) / packet))
        time.sleep(CAPTURE_S)
        return subprocess.run(["ip", "neighbour", "show"], capture_output=True, text=True, check=True).stdout.count("\n")

    with inside(box.pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sending:
        inside(box.pid, lambda: sending.bind(("eth0", 0)))
        assert neighbours() < 10
        subprocess.run(["nft", "flush", "set", "inet", f"slipway_{instance.id}", "gateways"], check=True)
        assert neighbours() > 150, "the control"
    with other.listen(80), other.listen(81, "::"):
        assert box.reaches(other.endpoint.ip_address, 80) and box.reaches(_six(other), 81)


def test_what_leaves_by_the_world_has_the_hosts_address(instance: Instance) -> None:
    """A lie about the source does not leave the host either."""
    from tests.engine.networks.machine import UPLINK6, WORLD6, ipv6_world, world

    s = _scapy()
    with world() as outside:
        ipv6_world(outside)
        box = instance.box("alice", instance.network("alice", "net", ipv6_pool=Pool()))
        outer = Box(outside, "", box.tenant, [], [])
        frame = bytes(_udp(box, box, src="203.0.113.66", to=_gateway_mac(box), dst=WORLD))
        honest = bytes(_udp(box, box, to=_gateway_mac(box), dst=WORLD))
        listening = inside(outer.pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        sending = inside(box.pid, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        with listening, sending:
            inside(box.pid, lambda: sending.bind(("eth0", 0)))
            sending.send(frame)
            for payload in (s.ICMPv6ND_NS(tgt="fd00::1"), s.ICMPv6MLReport2()):  # no connections, so nobody would give them another address
                told = _ether(box, _gateway_mac(box)) / s.IPv6(src=_six(box), dst=WORLD6) / payload / s.Raw(MARK)
                sending.send(bytes(told))
            sending.send(bytes(_ether(box, _gateway_mac(box)) / s.IPv6(src=_six(box), dst=WORLD6) / s.UDP(dport=9) / s.Raw(MARK)))
            sending.send(honest)
            seen = []
            listening.settimeout(2)
            try:
                while True:
                    data, (_name, _protocol, kind, *_) = listening.recvfrom(4096)
                    if MARK in data and kind != PACKET_OUTGOING:
                        is_four = data[12:14] == b"\x08\x00"
                        seen.append(socket.inet_ntoa(data[26:30]) if is_four else socket.inet_ntop(socket.AF_INET6, data[22:38]))
                        listening.settimeout(CAPTURE_S)
            except TimeoutError:
                pass
    assert sorted(seen) == sorted([UPLINK, UPLINK6])
