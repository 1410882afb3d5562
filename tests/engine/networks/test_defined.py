"""Networks that tenants make: who reaches whom by them, proved with packets on a host of the test's own."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from engine.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from engine.model.network import EndpointSpec, NetworkSpec, Pool, PortBinding
from engine.networks import resolve
from tests.engine.networks.machine import UPLINK, WORLD, Box, Instance, inside, listen, reaches, world

pytestmark = pytest.mark.requires("root", "nft")


@pytest.fixture
def outside(host: None) -> Iterator[int]:
    with world() as pid:
        yield pid


def close(listening: list[socket.socket]) -> None:
    for sock in listening:
        sock.close()


def publish(instance: Instance, box: Box, *ports: PortBinding) -> None:
    instance.networks.publish(box.id, box.endpoint, ports)


def forward(host_port: int, container_port: int = 80, **words: str) -> PortBinding:
    return PortBinding(container_port=container_port, host_port=host_port, **words)


@pytest.mark.guest
def test_networks_of_one_tenant_do_not_reach_each_other(instance: Instance) -> None:
    front, back = instance.network("alice", "front"), instance.network("alice", "back")
    one, other, both = instance.box("alice", front), instance.box("alice", back), instance.box("alice", front, back)
    usual = instance.box("alice")
    listening = [box.listen(80) for box in (one, other, both, usual)]
    assert one.reaches(both.endpoints[0].ip_address, 80) and other.reaches(both.endpoints[1].ip_address, 80)
    assert both.reaches(one.endpoint.ip_address, 80) and both.reaches(other.endpoint.ip_address, 80)
    for here, there in ((one, other), (other, one), (one, usual), (usual, one)):
        assert here.is_kept_from(there.endpoint.ip_address, 80)
    assert one.is_kept_from(both.endpoints[1].ip_address, 80), "a container's other network is no way there"
    close(listening)


def test_one_tenants_network_is_nothing_to_another(instance: Instance) -> None:
    alice = instance.box("alice", instance.network("alice", "net"))
    bob = instance.box("bob", instance.network("bob", "net"))
    with alice.listen(80):
        assert bob.is_kept_from(alice.endpoint.ip_address, 80)
    with pytest.raises(NotFound):
        instance.box("bob", alice.endpoint.network_id)


def test_an_internal_network_has_no_way_out_or_in(instance: Instance, outside: int) -> None:
    closed = instance.network("alice", "closed", internal=True)
    one, other = instance.box("alice", closed), instance.box("alice", closed)
    with other.listen(80), inside(outside, lambda: listen(443)):
        assert one.reaches(other.endpoint.ip_address, 80)
        assert "default" not in one.run("ip", "route").stdout
        one.run("ip", "route", "add", "default", "via", one.endpoint.gateway)  # as its root may
        assert one.is_kept_from(WORLD, 443)
        publish(instance, other, forward(8080))
        assert not inside(outside, lambda: reaches(UPLINK, 8080))


def test_without_icc_containers_reach_the_world_alone(instance: Instance, outside: int) -> None:
    apart = instance.network("alice", "apart", icc=False)
    one, other = instance.box("alice", apart), instance.box("alice", apart)
    with other.listen(80), inside(outside, lambda: listen(443)):
        assert one.is_kept_from(other.endpoint.ip_address, 80)
        assert one.reaches(WORLD, 443)


def test_the_default_route(instance: Instance) -> None:
    b, a, closed = instance.network("alice", "b"), instance.network("alice", "a"), instance.network("alice", "0", internal=True)

    def way_out(*wanted: EndpointSpec | str) -> str:
        box = instance.box("alice", *wanted)
        assert [each.interface for each in box.endpoints] == [f"eth{number}" for number in range(len(wanted))]
        (line,) = [line for line in box.run("ip", "route").stdout.splitlines() if line.startswith("default")]
        return next(each.network_id for each in box.endpoints if f"via {each.gateway} dev {each.interface}" in line)

    assert way_out(b, a) == a, "the first name"
    assert way_out(closed, b) == b, "never an internal one"
    assert way_out(EndpointSpec(network_id=b, gw_priority=1), a) == b
    assert way_out(EndpointSpec(), a) == a and way_out(EndpointSpec(), instance.network("alice", "net")) == ""


@pytest.mark.guest
def test_connected_and_disconnected_while_it_runs(instance: Instance) -> None:
    net = instance.network("alice", "net")
    box, other = instance.box("alice"), instance.box("alice", net)
    with other.listen(80):
        assert box.is_kept_from(other.endpoint.ip_address, 80)
        made = instance.networks.connect(box.tenant, box.id, EndpointSpec(network_id=net), box.endpoints, box.pid)
        assert made.interface == "eth1" and box.reaches(other.endpoint.ip_address, 80)
    instance.networks.route(dataclasses.replace(made, is_way_out=True), box.pid)
    assert f"default via {made.gateway} dev eth1" in box.run("ip", "route").stdout
    instance.networks.disconnect(box.id, made)
    assert "eth1" not in box.run("ip", "link").stdout and made.link not in dict(map(reversed, socket.if_nameindex()))  # type: ignore[arg-type]
    again = instance.networks.connect(box.tenant, box.id, EndpointSpec(network_id=net, ip_address=made.ip_address), box.endpoints, box.pid)
    assert again.ip_address == made.ip_address, "it was free at once"
    killed = instance.networks.connect(box.tenant, box.id, EndpointSpec(network_id=net), box.endpoints, box.pid)
    assert killed == again, "one that was killed before it was written down is made anew"


# -- published ports -----------------------------------------------------------------------------------


@pytest.mark.guest
def test_a_published_port_is_reached_from_everywhere(instance: Instance, outside: int) -> None:
    net = instance.network("alice", "net")
    box, neighbour, bob = instance.box("alice", net), instance.box("alice", net), instance.box("bob")
    listening = [box.listen(80)]
    assert not inside(outside, lambda: reaches(UPLINK, 8080))
    publish(instance, box, forward(8080))
    assert inside(outside, lambda: reaches(UPLINK, 8080)), "from the world"
    assert reaches(UPLINK, 8080) and reaches("127.0.0.1", 8080), "from the host, also on its loopback"
    for here in (neighbour, box, bob):
        assert here.reaches(UPLINK, 8080), "from a container by the host's address: of its own network, itself, another tenant's"
    assert bob.is_kept_from(box.endpoint.ip_address, 80), "and by no other way"
    instance.networks.release(box.id, [net])
    assert not reaches("127.0.0.1", 8080)
    close(listening)


def test_a_port_of_one_address(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    listening = [box.listen(80)]
    publish(instance, box, forward(8080, host_ip="127.0.0.1"), forward(8081, host_ip=UPLINK))
    assert reaches("127.0.0.1", 8080) and not inside(outside, lambda: reaches(UPLINK, 8080))
    assert reaches(UPLINK, 8081) and not reaches("127.0.0.1", 8081)
    close(listening)


def test_the_hosts_loopback_is_nobodys(instance: Instance) -> None:
    """CVE-2020-8558: route_localnet, which a published port needs, must not lead from a container to 127.0.0.1 of the host."""
    box = instance.box("alice")
    publish(instance, box, forward(8080))
    with listen(631, "127.0.0.1"):
        box.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
        box.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
        assert box.run("ip", "route", "add", "127.0.0.1", "via", box.endpoint.gateway).returncode == 0
        box.run("sysctl", "-w", "net.ipv4.conf.all.route_localnet=1")
        assert box.is_kept_from("127.0.0.1", 631)


def test_ports_change_and_come_back(instance: Instance) -> None:
    box = instance.box("alice")
    listening = [box.listen(80)]
    publish(instance, box, forward(8080), forward(8081))
    publish(instance, box, forward(8081), forward(8082))
    assert not reaches("127.0.0.1", 8080) and reaches("127.0.0.1", 8081) and reaches("127.0.0.1", 8082)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    instance.networks.heal()
    assert reaches("127.0.0.1", 8081)
    subprocess.run(["nft", "flush", "map", "inet", f"slipway_{instance.id}", "published"], check=True)
    instance.networks.heal()
    assert reaches("127.0.0.1", 8081), "also when a map alone was emptied"
    close(listening)


def test_connections_end_with_whose_they_were(instance: Instance, outside: int) -> None:
    """An address may be another tenant's next: nothing that somebody still sends to the old one's port gets there."""
    pool = Pool(subnet="172.30.9.0/24")
    wanted = EndpointSpec(network_id=instance.network("alice", "net", pool=pool), ip_address="172.30.9.9")
    alice = instance.box("alice", wanted)

    def udp(address: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 0 if address else 53))
        sock.settimeout(1)
        return sock

    publish(instance, alice, forward(45777, 53, protocol="udp"))
    server, client = inside(alice.pid, lambda: udp("")), inside(outside, lambda: udp(WORLD))
    with server, client:
        client.sendto(b"one", (UPLINK, 45777))
        assert server.recv(10) == b"one"
        os.kill(alice.pid, 9)
        instance.networks.release(alice.id, [wanted.network_id])
        instance.networks.remove("alice", wanted.network_id)
        bob = instance.box("bob", EndpointSpec(network_id=instance.network("bob", "net", pool=pool), ip_address="172.30.9.9"))
        with inside(bob.pid, lambda: udp("")) as other:
            client.sendto(b"two", (UPLINK, 45777))
            with pytest.raises(TimeoutError):
                other.recv(10)


def test_the_thousandth_is_no_rule_of_its_own(instance: Instance) -> None:
    def rules() -> int:
        words = ["nft", "-j", "list", "table", "inet", f"slipway_{instance.id}"]
        return sum("rule" in item for item in json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["nftables"])

    box = instance.box("alice")
    before = rules()
    publish(instance, box, *[forward(10_000 + number) for number in range(1000)])
    assert rules() == before
    instance.networks.release(box.id)
    left = subprocess.run(["nft", "list", "map", "inet", f"slipway_{instance.id}", "published"], capture_output=True, text=True, check=True)
    assert "10500" not in left.stdout


# -- made, removed, refused ----------------------------------------------------------------------------


def test_a_network_is_removed_with_all_of_it(instance: Instance) -> None:
    instance.box("alice")
    before = set(dict(socket.if_nameindex()).values())
    net = instance.network("alice", "net", internal=True)
    box = instance.box("alice", net)
    with pytest.raises(PermissionDenied, match=r"error while removing network: network net id .* has active endpoints"):
        instance.networks.remove("alice", net)
    os.kill(box.pid, 9)
    instance.networks.release(box.id, [net])
    instance.networks.remove("alice", net)
    instance.networks.remove("alice", net)
    assert {name for name in dict(socket.if_nameindex()).values() if name.startswith(f"{instance.id}b")} <= before
    assert box.endpoint.gateway.rpartition(".")[0] not in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    with pytest.raises(NotFound):
        instance.box("alice", net)


def test_subnets(instance: Instance) -> None:
    """Of one host: given once, whoever asks."""
    first, second = (instance.networks.network(instance.tenants.ensure(t), instance.network(t, "net")) for t in ("alice", "bob"))
    assert first.pool and second.pool and first.pool.subnet != second.pool.subnet
    assert first.pool.subnet.endswith("/24") and first.pool.gateway.endswith(".1")
    chosen = instance.network("alice", "mine", pool=Pool(subnet="172.31.5.0/24", gateway="172.31.5.254", reserved=("172.31.5.1",)))
    box = instance.box("alice", chosen)
    assert (box.endpoint.ip_address, box.endpoint.gateway) == ("172.31.5.2", "172.31.5.254")
    for overlapping in ("172.31.5.128/25", "172.31.0.0/16", first.pool.subnet, box.tenant.subnet):
        with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address space"):
            instance.network("bob", "his", pool=Pool(subnet=overlapping))
    for wrong in ("10.0.0.0/8", "8.8.8.0/24", "100.100.100.0/24", "172.31.6.0/31", "172.31.6.5/24", "fd00::/64", "x"):
        with pytest.raises(InvalidArgument):
            instance.network("bob", "his", pool=Pool(subnet=wrong))
    with pytest.raises(AlreadyExists, match="network with name net already exists"):
        instance.networks.create(NetworkSpec(id="f" * 64, tenant="alice", name="net"))


def test_a_route_of_the_hosts_is_kept(instance: Instance) -> None:
    subprocess.run(["ip", "link", "add", "lan", "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "192.168.7.1/24", "dev", "lan"], check=True)
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        instance.network("alice", "net", pool=Pool(subnet="192.168.0.0/16"))


def test_what_the_host_reaches_by_its_default_route_is_kept(instance: Instance, outside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subnet of a tenant's is a route of the host's: it would take name servers and peers from the host, and from all tenants."""
    monkeypatch.setattr(resolve, "nameservers", lambda: ["10.255.255.53"])
    for number, covering in enumerate(("10.255.255.0/24", "10.255.3.0/24", "10.255.0.0/16")):
        with pytest.raises(PermissionDenied, match="Pool overlaps"):
            instance.network("alice", f"dns{number}", pool=Pool(subnet=covering))
    for command in ("address add 172.22.5.9/32 dev lo",):
        subprocess.run(["nsenter", "-t", str(outside), "-n", "ip", *command.split()], check=True)
    server = inside(outside, lambda: listen(5432))
    with server, socket.create_connection(("172.22.5.9", 5432), timeout=20), pytest.raises(PermissionDenied, match="Pool overlaps"):
        instance.network("alice", "peer", pool=Pool(subnet="172.22.77.0/24"))
    subprocess.run(["ip", "address", "add", "172.27.3.4/20", "dev", "lo"], check=True)
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        instance.network("alice", "cloud", pool=Pool(subnet="172.27.128.0/20"))
    assert instance.network("alice", "fine", pool=Pool(subnet="172.26.0.0/16"))
