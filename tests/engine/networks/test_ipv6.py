"""IPv6 inside networks, proved with packets on a host of the test's own."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidArgument, PermissionDenied
from engine.model.network import EndpointSpec, Pool, PortBinding
from engine.model.rules import Rules, parse
from engine.networks import ipam
from tests.engine.networks.machine import (
    UPLINK,
    UPLINK6,
    WORLD6,
    Box,
    Instance,
    inside,
    ipv6_world,
    is_kept_from,
    listen,
    reaches,
    world,
)

pytestmark = pytest.mark.requires("root", "nft")

FORWARDING = Path("/proc/sys/net/ipv6/conf/all/forwarding")
CHOSEN = Pool()


@pytest.fixture
def outside(host: None) -> Iterator[int]:
    with world() as pid:
        ipv6_world(pid)
        yield pid


def six(box: Box, number: int = 0) -> str:
    return box.endpoints[number].ipv6_address


def network(
    instance: Instance, tenant: str, name: str = "net", pool: Pool = CHOSEN, *, pool_of_ipv4: Pool | None = CHOSEN, **words: Any
) -> str:
    return instance.network(tenant, name, pool=pool_of_ipv4, ipv6_pool=pool, **words)


@pytest.mark.guest
def test_containers_of_a_network_reach_each_other_and_the_world(instance: Instance, outside: int) -> None:
    net = network(instance, "alice")
    one, other = instance.box("alice", net), instance.box("alice", net)
    assert six(one) != six(other)
    with other.listen(80, "::"):
        assert one.reaches(six(other), 80)
        assert reaches(six(other), 80), "the host does, too"
        assert inside(outside, lambda: is_kept_from(six(other), 80))
    with inside(outside, lambda: listen(443, "::")) as server:
        assert one.reaches(WORLD6, 443)
        connection, (peer, *_) = server.accept()
        connection.close()
        assert peer == UPLINK6, "it leaves by the host's address"


def test_a_container_has_what_it_was_given_and_nothing_else(instance: Instance) -> None:
    pool = Pool(subnet="fd00:7::/64", gateway="fd00:7::0fe", ip_range="fd00:7::1:0/112", reserved=("fd00:7::0001:0",))
    net = network(instance, "alice", pool=pool)
    plain = instance.network("alice", "plain")
    box = instance.box("alice", net, plain)
    chosen = instance.box("alice", EndpointSpec(network_id=net, ipv6_address="fd00:7:0::0abc"))
    assert (six(box), six(chosen)) == ("fd00:7::1:1", "fd00:7::abc"), "behind the one that is reserved"

    def shown(*words: str) -> Any:
        return json.loads(box.run("ip", "-6", "-j", *words).stdout)

    addresses = {each["ifname"]: sorted(a["local"] for a in each["addr_info"]) for each in shown("address")}
    link_local = ipam.link_local(box.endpoint.mac_address)
    assert addresses == {"lo": ["::1"], "eth0": ["fd00:7::1:1", link_local]}, "at once, and none of its own making"
    assert [(each["gateway"], each["dev"]) for each in shown("route", "show", "default")] == [("fd00:7::fe", "eth0")]
    assert box.run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").stdout == "0\n"
    assert box.run("cat", "/proc/sys/net/ipv6/conf/eth1/disable_ipv6").stdout == "1\n", "as moby has it"
    with pytest.raises(PermissionDenied, match="Address already in use"):
        instance.box("alice", EndpointSpec(network_id=net, ipv6_address="fd00:7::ABC"))
    with pytest.raises(InvalidArgument, match="no configured subnet contains"):
        instance.box("alice", EndpointSpec(network_id=plain, ipv6_address="fd00:7::7"))
    instance.networks.release(chosen.id, [net])
    assert six(instance.box("alice", EndpointSpec(network_id=net, ipv6_address="fd00:7::abc"))) == "fd00:7::abc"


def test_nobody_else_is_reached(instance: Instance, outside: int) -> None:
    """Other tenants, other networks, the host on whatever address, its link-local address too, and metadata services."""
    alice, bob = instance.box("alice", network(instance, "alice")), instance.box("bob", network(instance, "bob"))
    beside = instance.box("alice", network(instance, "alice", "beside"))
    inner = instance.box("alice", network(instance, "alice", "inner", internal=True))
    gateway = alice.endpoint.ipv6_gateway
    with bob.listen(80, "::"), beside.listen(80, "::"), inner.listen(80, "::"), alice.listen(80, "::"), listen(22, "::"):
        for target in (six(bob), six(beside), six(inner), bob.endpoint.ipv6_gateway):
            assert reaches(target, 22 if target.endswith("::1") else 80), "the host reaches them"
            assert alice.is_kept_from(target, 22 if target.endswith("::1") else 80)
        for box in (bob, beside, inner):
            assert box.is_kept_from(six(alice), 80)
        for target in (gateway, UPLINK6, "fe80::1%eth0"):
            assert alice.is_kept_from(target, 22)
        assert inner.is_kept_from(WORLD6, 80)
    for service in ("fd00:ec2::254", "64:ff9b::a9fe:a9fe"):
        subprocess.run(["nsenter", "-t", str(outside), "-n", "ip", "address", "add", f"{service}/128", "dev", "lo"], check=True)
        with inside(outside, lambda: listen(80, "::")):
            assert alice.reaches(WORLD6, 80)
            assert reaches(service, 80)
            assert alice.is_kept_from(service, 80)


def test_icc_off_and_a_flushed_ruleset(instance: Instance) -> None:
    apart = network(instance, "alice", "apart", icc=False)
    one, other = instance.box("alice", apart), instance.box("alice", apart)
    bob = instance.box("bob", network(instance, "bob"))
    with other.listen(80, "::"), bob.listen(80, "::"):
        assert one.is_kept_from(six(other), 80)
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert one.reaches(six(bob), 80), "nothing guards now: the test would prove nothing"
        instance.networks.heal()
        assert one.is_kept_from(six(bob), 80)
        subprocess.run(["ip", "link", "delete", f"{instance.id}bn1"], check=True)
        instance.networks.heal()
        assert reaches(six(other), 80), "a bridge comes back with its addresses"


def test_published_ports_lead_to_it_and_it_sees_who_comes(instance: Instance, outside: int) -> None:
    net = network(instance, "alice")
    box, other = instance.box("alice", net), instance.box("bob")
    way = box.endpoint
    ports = [PortBinding(container_port=80, host_port=8080), PortBinding(container_port=80, host_ip=UPLINK6, host_port=8081)]
    instance.networks.publish(box.id, way, ports, ipv6=way)

    def comes(address: str, port: int) -> str:
        with box.listen(80, "::") as server:
            socket.create_connection((address, port), timeout=20).close()
            connection, (peer, *_) = server.accept()
            connection.close()
            return str(peer).removeprefix("::ffff:")

    assert inside(outside, lambda: comes(UPLINK6, 8080)) == WORLD6
    assert inside(outside, lambda: comes(UPLINK6, 8081)) == WORLD6
    assert comes(UPLINK6, 8080) == UPLINK6, "from the host itself"
    ours = instance.box("carol", network(instance, "carol"))
    with box.listen(80, "::"):
        assert ours.reaches(UPLINK6, 8080), "from another tenant's, as from the world"
        assert other.is_kept_from(UPLINK6, 8080), "who has no IPv6"
        instance.networks.limit(box.id, box.endpoints, Rules(ingress=parse("tcp 2001:db8:ffff::/64 80")))
        assert inside(outside, lambda: reaches(UPLINK6, 8080))
        assert ours.is_kept_from(UPLINK6, 8080)
        assert inside(outside, lambda: is_kept_from(UPLINK, 8080)), "a list for some is none for the other family"
        instance.networks.limit(box.id, box.endpoints, Rules())
        instance.networks.unpublish(box.id)
        assert inside(outside, lambda: not reaches(UPLINK6, 8080)), "refused: nothing of the host listens there"


@pytest.mark.guest
def test_a_network_without_ipv4(instance: Instance, outside: int) -> None:
    """Beside one with both: the same walls, the same ways, and a bridge that comes back."""
    net = network(instance, "alice", "six", pool=Pool(subnet="fd00:9::/64"), pool_of_ipv4=None)
    one, other = instance.box("alice", net), instance.box("alice", net)
    both, bob = instance.box("alice", instance.network("alice", "plain"), net), instance.box("bob", network(instance, "bob"))
    assert (one.endpoint.ip_address, one.endpoint.gateway, six(one)) == ("", "", "fd00:9::2")
    assert len({box.endpoints[-1].mac_address for box in (one, other, both)}) == 3
    assert one.run("ip", "-4", "address", "show", "eth0").stdout == "" and one.run("ip", "route").stdout == ""
    assert [each.is_way_out for each in both.endpoints] == [True, False]
    assert [each.is_ipv6_way_out for each in both.endpoints] == [False, True]
    with pytest.raises(InvalidArgument, match="no configured subnet contains IP address"):
        instance.box("alice", EndpointSpec(network_id=net, ip_address="10.0.0.7"))

    def holds() -> None:
        with other.listen(80, "::"), bob.listen(80, "::"):
            assert one.reaches(six(other), 80) and both.reaches(six(other), 80) and reaches(six(other), 80)
            assert bob.is_kept_from(six(other), 80) and one.is_kept_from(six(bob), 80)
        with inside(outside, lambda: listen(443, "::")):
            assert one.reaches(WORLD6, 443)

    holds()
    one.run("ip", "address", "add", f"{UPLINK.rpartition('.')[0]}.9/24", "dev", "eth0")  # as its root may
    with listen(8000):
        assert one.is_kept_from(UPLINK, 8000), "no IPv4 frame is let in"
    instance.networks.publish(one.id, one.endpoint, [PortBinding(container_port=80, host_ip="::", host_port=8080)], ipv6=one.endpoint)
    with one.listen(80, "::"):
        assert inside(outside, lambda: reaches(UPLINK6, 8080))
        assert inside(outside, lambda: not reaches(UPLINK, 8080)), "refused"
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    assert not instance.networks.is_whole()
    instance.networks.heal()
    assert instance.networks.is_whole()
    subprocess.run(["ip", "link", "delete", f"{instance.id}bn1"], check=True)
    instance.networks.heal()
    holds()
    for box in (one, other, both):
        instance.networks.release(box.id, [each.network_id for each in box.endpoints])
    instance.networks.remove("alice", net)
    assert f"{instance.id}bn1" not in [name for _, name in socket.if_nameindex()]
    with pytest.raises(InvalidArgument, match="IPv4 or IPv6 must be enabled"):
        instance.network("alice", "none", pool=None)


@pytest.mark.parametrize("place", ["container", "network"])
def test_allow_lists_hold_for_it(instance: Instance, outside: int, place: str) -> None:
    net = network(instance, "alice")
    box, other = instance.box("alice", net), instance.box("alice", net)

    def limit(words: str) -> None:
        rules = Rules(egress=parse(words))
        if place == "container":
            instance.networks.limit(box.id, box.endpoints, rules)
        else:
            instance.networks.limit_network("alice", net, rules)

    with inside(outside, lambda: listen(443, "::")), inside(outside, lambda: listen(80, "::")), other.listen(80, "::"):
        limit(f"tcp {WORLD6} 443")
        assert box.reaches(WORLD6, 443)
        assert box.is_kept_from(WORLD6, 80)
        assert box.reaches(six(other), 80), "what stays inside is no matter of it"
        ping = ("busybox", "ping", "-6", "-c", "1", "-W", "1", WORLD6)
        assert box.run(*ping).returncode != 0
        limit("tcp 192.0.2.0/24; icmp all")
        assert box.is_kept_from(WORLD6, 443), "a list of IPv4 addresses allows no IPv6"
        assert box.run(*ping).returncode == 0
        limit("tcp all 80")
        assert box.reaches(WORLD6, 80)


def test_the_way_out_moves_and_a_disconnect_frees(instance: Instance, outside: int) -> None:
    first, second = network(instance, "alice", "first"), network(instance, "alice", "second")
    plain = instance.network("alice", "a-plain")
    box = instance.box("alice", plain, second)
    assert [each.is_way_out for each in box.endpoints] == [True, False]
    assert [each.is_ipv6_way_out for each in box.endpoints] == [False, True], "it goes where there is IPv6"
    with inside(outside, lambda: listen(80, "::")), inside(outside, lambda: listen(81)):
        assert box.reaches(WORLD6, 80)
    made = instance.networks.connect(box.tenant, box.id, EndpointSpec(network_id=first), box.endpoints, box.pid)
    instance.networks.route(replace(made, is_ipv6_way_out=True), box.pid)
    assert f"default via {made.ipv6_gateway} dev eth2" in box.run("ip", "-6", "route").stdout
    instance.networks.route(box.endpoints[1], box.pid)
    with inside(box.pid, lambda: listen(80, "::")):
        assert reaches(made.ipv6_address, 80)
    instance.networks.disconnect(box.id, made)
    listed = subprocess.run(["nft", "list", "table", "bridge", f"slipway_{instance.id}"], capture_output=True, text=True, check=True).stdout
    assert made.ipv6_address not in listed and six(box, 1) in listed
    assert six(instance.box("alice", EndpointSpec(network_id=first, ipv6_address=made.ipv6_address))) == made.ipv6_address


def test_a_forward_policy_of_drop_is_lived_with(instance: Instance, outside: int) -> None:
    policy = "add table ip6 filter; add chain ip6 filter FORWARD { type filter hook forward priority filter; policy drop; }"
    subprocess.run(["nft", policy], check=True)
    box = instance.box("alice", network(instance, "alice"))
    with inside(outside, lambda: listen(443, "::")):
        assert box.reaches(WORLD6, 443)


def test_forwarding_is_given_back_and_the_host_keeps_its_router(new_instance: Callable[[], Instance], outside: int) -> None:
    advertised = Path("/proc/sys/net/ipv6/conf/uplink/accept_ra")

    def now() -> tuple[str, str]:
        return FORWARDING.read_text().strip(), advertised.read_text().strip()

    assert now() == ("0", "1")
    one, other = new_instance(), new_instance()
    one.box("alice", one.network("alice", "plain"))
    assert now() == ("0", "1"), "who has no IPv6 network changes nothing"
    for instance in (one, other):
        instance.box("alice", network(instance, "alice"))
        assert now() == ("1", "2")
    one.networks.remove_all()
    assert now() == ("1", "2")
    other.networks.remove_all()
    assert now() == ("0", "1")


def test_subnets_are_given_once(instance: Instance, outside: int) -> None:
    instance.tenants.ensure("bob")
    chosen = instance.networks.specs()
    network(instance, "alice", "one")
    network(instance, "alice", "two")
    ones = [spec.ipv6_pool.subnet for spec in instance.networks.specs() if spec.ipv6_pool]
    assert chosen == [] and len(set(ones)) == 2 and all(each.startswith("fd") and each.endswith("/64") for each in ones)
    network(instance, "alice", "mine", Pool(subnet="fd00:1:2:3::/64"))
    for taken in ("fd00:1:2:3::/80", "fd00:1:2::/48", ones[0], "2001:db8:ffff::/64"):
        with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address space"):
            network(instance, "bob", taken.replace("/", ".").replace(":", "-"), Pool(subnet=taken))
    for wrong in ("fd00::%1/64", "2606:4700::/48", "fe80::/64", "fd00::/32", "::/0"):
        with pytest.raises(InvalidArgument, match="invalid subnet"):
            network(instance, "bob", "wrong", Pool(subnet=wrong))
    with pytest.raises(InvalidArgument, match="1280"):
        network(instance, "bob", "narrow", mtu=1000)
