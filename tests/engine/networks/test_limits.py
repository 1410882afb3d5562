"""Allow-lists of containers and networks, proved with packets on a host of the test's own."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.errors import InvalidArgument
from engine.model.network import PortBinding
from engine.model.rules import Rules, parse
from engine.networks import limits
from engine.networks.limits import Limit
from tests.engine.networks.machine import UPLINK, WORLD, Box, Instance, inside, is_kept_from, listen, reaches, world

pytestmark = pytest.mark.requires("root", "nft")

EVERYTHING = Rules()


@pytest.fixture
def outside(host: None) -> Iterator[int]:
    with world() as pid:
        for port in (80, 443, 8443):
            server = inside(pid, lambda port=port: listen(port))  # type: ignore[misc]
            servers.append(server)
        yield pid
        for server in servers:
            server.close()
        servers.clear()


servers: list[socket.socket] = []


def rules(egress: str | None = None, ingress: str | None = None) -> Rules:
    return Rules(egress=parse(egress), ingress=parse(ingress))


def limit(instance: Instance, box: Box, wanted: Rules) -> None:
    instance.networks.limit(box.id, box.endpoints, wanted)


def in_world(pid: int, ask: Callable[[], Any]) -> Any:
    return inside(pid, ask)


@pytest.mark.guest
def test_a_container_reaches_what_its_list_says(instance: Instance, outside: int) -> None:
    box, free = instance.box("alice"), instance.box("alice")
    limit(instance, box, rules(f"tcp {WORLD} 443,8000-8999; udp all 53"))
    assert box.reaches(WORLD, 443)
    assert box.reaches(WORLD, 8443)
    assert box.is_kept_from(WORLD, 80)
    assert box.run("busybox", "ping", "-c", "1", "-W", "1", WORLD).returncode != 0
    assert free.reaches(WORLD, 80)
    with free.listen(80):
        assert box.reaches(free.endpoint.ip_address, 80), "what does not leave the network is no matter of the list"


def test_a_list_changes_while_the_container_runs(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    for wanted, open_, ping in (("none", False, False), ("icmp all", False, True), ("any 198.51.100.0/24", True, True), (None, True, True)):
        limit(instance, box, rules(wanted))
        assert box.is_kept_from(WORLD, 80) is not open_
        assert (box.run("busybox", "ping", "-c", "1", "-W", "1", WORLD).returncode == 0) is ping, wanted


def test_a_connection_ends_that_a_new_list_leaves_out(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    with inside(outside, lambda: listen(7000)) as server, inside(box.pid, lambda: connected(WORLD, 7000)) as client:
        far, _ = server.accept()
        with far:
            far.settimeout(1)
            client.sendall(b"before")
            assert far.recv(100) == b"before"
            limit(instance, box, rules(f"tcp {WORLD} 443"))
            client.sendall(b"after")
            with pytest.raises(TimeoutError):
                far.recv(100)
            far.sendall(b"answer")
            with pytest.raises(TimeoutError):
                client.recv(100)
            limit(instance, box, rules(f"tcp {WORLD} 7000"))
            far.settimeout(20)
            assert far.recv(100) == b"after", "allowed again, it goes on"


def test_of_two_lists_both_must_allow(instance: Instance, outside: int) -> None:
    network = instance.network("alice", "backend", rules=rules("tcp all 80,443"))
    box, other = instance.box("alice", network), instance.box("alice", network)
    limit(instance, box, rules("tcp all 443,8443"))
    assert box.reaches(WORLD, 443)
    assert box.is_kept_from(WORLD, 80)
    assert box.is_kept_from(WORLD, 8443)
    assert other.reaches(WORLD, 80)
    assert other.is_kept_from(WORLD, 8443)
    instance.networks.limit_network("alice", network, EVERYTHING)
    assert other.reaches(WORLD, 8443)
    assert box.reaches(WORLD, 8443)
    assert box.is_kept_from(WORLD, 80)


def test_who_may_come_to_a_published_port(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    subprocess.run(["nsenter", "-t", str(outside), "-n", "ip", "address", "add", "198.51.100.77/24", "dev", "eth0"], check=True)
    instance.networks.publish(box.id, box.endpoint, [PortBinding(container_port=80, host_port=8080)])

    def comes(source: str) -> Callable[[], bool]:
        def ask() -> bool:
            try:
                socket.create_connection((UPLINK, 8080), timeout=1, source_address=(source, 0)).close()
                return True
            except TimeoutError:
                return False

        return ask

    with box.listen(80):
        assert in_world(outside, comes(WORLD))
        limit(instance, box, rules(ingress="tcp 198.51.100.77 80"))
        assert in_world(outside, comes("198.51.100.77"))
        assert not in_world(outside, comes(WORLD))
        assert box.reaches(WORLD, 443), "answers to what it asked are not what comes in"
        limit(instance, box, rules(ingress="tcp all 81"))
        assert not in_world(outside, comes("198.51.100.77"))
        limit(instance, box, EVERYTHING)
        assert in_world(outside, comes(WORLD))


def test_by_ipv6_comes_only_whom_everybody_may_be(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    commands = ["ip address add fd00::1/64 dev uplink nodad", f"nsenter -t {outside} -n ip address add fd00::2/64 dev eth0 nodad"]
    for command in commands:
        subprocess.run(command.split(), check=True)
    with socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=False):  # as netd has one

        def comes() -> bool:
            return inside(outside, lambda: not is_kept_from("fd00::1", 8080))

        limit(instance, box, rules(ingress="tcp 198.51.100.0/24"))
        instance.networks.publish(box.id, box.endpoint, [PortBinding(container_port=80, host_port=8080)])
        assert not comes()
        assert reaches("::1", 8080)
        limit(instance, box, rules(ingress="tcp all 80"))
        assert comes()
        limit(instance, box, rules(ingress="tcp all 81"))
        assert not comes()
        instance.networks.release(box.id)
        assert comes(), "whoever has the port next is not kept in"


def test_lists_come_back_with_the_tables(instance: Instance, outside: int) -> None:
    network = instance.network("alice", "backend", rules=rules("tcp all 80,443"))
    box = instance.box("alice", network)
    limit(instance, box, rules("tcp all 443"))
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    instance.networks.heal()
    assert box.reaches(WORLD, 443)
    assert box.is_kept_from(WORLD, 80)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    limit(instance, box, rules("tcp all 80"))
    assert box.is_kept_from(WORLD, 443)
    assert box.reaches(WORLD, 80)
    table = f"slipway_{instance.id}"
    subprocess.run(["nft", "flush", "set", "inet", table, "egress_containers"], check=True)
    assert box.reaches(WORLD, 443)
    instance.networks.heal()
    assert box.is_kept_from(WORLD, 443)


def test_nothing_is_left_of_what_is_gone(instance: Instance, outside: int) -> None:
    network = instance.network("alice", "backend", rules=rules("none", "none"))
    box = instance.box("alice", network)
    limit(instance, box, rules("none", "tcp 10.0.0.0/8 1-9"))
    instance.networks.release(box.id, [network])
    instance.networks.remove("alice", network)
    for name in limits.names():
        listed = subprocess.run(["nft", "list", "set", "inet", f"slipway_{instance.id}", name], capture_output=True, text=True, check=True)
        assert "elements" not in listed.stdout, listed.stdout


def test_pieces_do_not_overlap_and_say_the_same() -> None:
    wanted = rules("tcp 10.0.0.0/8 80,443; tcp 10.1.0.0/16 1-100; any 10.1.2.0/24; udp all 53; icmp all")
    found = limits.elements([Limit(limits.CONTAINERS, ("192.0.2.1",), wanted)])
    assert found["egress_containers"] == ["192.0.2.1"]
    assert found["egress_containers_ports"] == [
        "192.0.2.1 . 10.0.0.0-10.0.255.255 . 6 . 80-80",
        "192.0.2.1 . 10.0.0.0-10.0.255.255 . 6 . 443-443",
        "192.0.2.1 . 10.1.0.0-10.1.1.255 . 6 . 1-100",
        "192.0.2.1 . 10.1.0.0-10.1.1.255 . 6 . 443-443",
        "192.0.2.1 . 10.1.2.0-10.1.2.255 . 6 . 0-65535",
        "192.0.2.1 . 10.1.3.0-10.1.255.255 . 6 . 1-100",
        "192.0.2.1 . 10.1.3.0-10.1.255.255 . 6 . 443-443",
        "192.0.2.1 . 10.2.0.0-10.255.255.255 . 6 . 80-80",
        "192.0.2.1 . 10.2.0.0-10.255.255.255 . 6 . 443-443",
        "192.0.2.1 . 0.0.0.0-10.1.1.255 . 17 . 53-53",
        "192.0.2.1 . 10.1.2.0-10.1.2.255 . 17 . 0-65535",
        "192.0.2.1 . 10.1.3.0-255.255.255.255 . 17 . 53-53",
    ]
    assert "192.0.2.1 . 10.1.2.0-10.1.2.255 . 0-5" in found["egress_containers_protocols"]


@pytest.mark.parametrize(
    "text",
    ["tcp", "sctp all 80", "tcp all 0", "tcp all 80-70", "tcp all 65536", "icmp all 80", "tcp 10.0.0.1/8", "tcp fd00::1/8", "none; tcp all",
     "tcp fe80::1%lo", "tcp all 80 81", "tcp all 80,,81", 'tcp all 80;}drop', "tcp 0.0.0.0/0 ٣"],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(text)


def test_too_many_pieces_are_refused() -> None:
    ports = ",".join(str(number) for number in range(1, 100, 2))
    with pytest.raises(InvalidArgument, match="too long"):
        limits.check_size(rules("; ".join(f"tcp 10.{number}.0.0/16 {ports}" for number in range(0, 40, 2))))


def connected(address: str, port: int) -> socket.socket:
    client = socket.create_connection((address, port), timeout=1)
    client.settimeout(1)
    return client
