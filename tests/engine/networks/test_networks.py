"""Who reaches whom, proved with packets on a host of the test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyroute2
import pytest

from engine.errors import FailedPrecondition
from engine.model.network import PortBinding
from engine.networks import firewall
from engine.networks.store import YOUNG_S
from tests.engine.networks.machine import UPLINK, WORLD, Instance, inside, is_kept_from, listen, process, reaches, world

pytestmark = pytest.mark.requires("root", "nft")

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture
def outside(host: None) -> Iterator[int]:
    with world() as pid:
        yield pid


def nft(*words: str) -> str:
    done = subprocess.run(["nft", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.guest
def test_containers_of_one_tenant_reach_each_other(instance: Instance) -> None:
    one, other = instance.box("alice"), instance.box("alice")
    with other.listen(80):
        assert one.reaches(other.endpoint.ip_address, 80)


@pytest.mark.guest
def test_a_container_sees_what_docker_shows_it(instance: Instance) -> None:
    box = instance.box("alice")

    def seen() -> tuple[object, ...]:
        with pyroute2.IPRoute() as ip:
            links = {link.get("ifname"): link for link in ip.get_links()}
            addresses = [(a.get("local"), a["prefixlen"]) for a in ip.get_addr(family=socket.AF_INET, label="eth0")]
            gateways = [route.get("gateway") for route in ip.get_default_routes(family=socket.AF_INET)]
            ipv6 = [a.get("address") for a in ip.get_addr(family=socket.AF_INET6, index=links["eth0"]["index"])]
        return set(links), links["eth0"].get("address"), links["eth0"]["state"], links["lo"]["state"], addresses, gateways, ipv6

    endpoint = box.endpoint
    assert endpoint.mac_address == "02:42:" + ":".join(f"{int(part):02x}" for part in endpoint.ip_address.split("."))
    assert inside(box.pid, seen) == (
        {"lo", "eth0"}, endpoint.mac_address, "up", "up", [(endpoint.ip_address, 20)], [endpoint.gateway], []
    )  # fmt: skip


@pytest.mark.guest
def test_other_tenants_are_unreachable(instance: Instance) -> None:
    alice, bob = instance.box("alice"), instance.box("bob")
    with bob.listen(80), alice.listen(80):
        assert alice.is_kept_from(bob.endpoint.ip_address, 80)
        assert bob.is_kept_from(alice.endpoint.ip_address, 80)
        assert alice.is_kept_from(bob.endpoint.gateway, 80)
        assert reaches(bob.endpoint.ip_address, 80), "the host reaches both"


def test_another_instance_is_unreachable(new_instance: Callable[[], Instance]) -> None:
    ours, theirs = new_instance(), new_instance()
    assert ours.id != theirs.id
    here, there = ours.box("alice"), theirs.box("alice")
    assert here.endpoint.ip_address != there.endpoint.ip_address
    with here.listen(80), there.listen(80):
        assert here.is_kept_from(there.endpoint.ip_address, 80)
        assert there.is_kept_from(here.endpoint.ip_address, 80)


@pytest.mark.guest
def test_services_of_the_host_are_unreachable_on_every_address(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    with listen(22), listen(8000, "127.0.0.1"), listen(6379, box.endpoint.gateway):
        for address, port in ((box.endpoint.gateway, 22), (UPLINK, 22), (box.endpoint.gateway, 6379)):
            assert reaches(address, port)
            assert box.is_kept_from(address, port)
        box.run("ip", "route", "add", "127.0.0.0/8", "via", box.endpoint.gateway, "table", "main")
        box.run("ip", "address", "flush", "dev", "lo")
        assert box.is_kept_from("127.0.0.1", 8000)
    assert box.run("busybox", "ping", "-c", "1", "-W", "1", box.endpoint.gateway).returncode != 0


@pytest.mark.guest
def test_the_world_is_reached_by_the_address_of_the_host(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    with inside(outside, lambda: listen(443)) as server:
        assert box.reaches(WORLD, 443)
        connection, (peer, _port) = server.accept()
        connection.close()
        assert peer == UPLINK


def test_the_world_does_not_get_in(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    subprocess.run(["nsenter", "-t", str(outside), "-n", "ip", "route", "add", "10.0.0.0/8", "via", UPLINK], check=True)
    with box.listen(80):
        assert reaches(box.endpoint.ip_address, 80)
        assert inside(outside, lambda: is_kept_from(box.endpoint.ip_address, 80))


def test_the_metadata_service_is_unreachable(instance: Instance, outside: int) -> None:
    box = instance.box("alice")
    for service in ("169.254.169.254", "100.100.100.200", "168.63.129.16"):
        subprocess.run(["nsenter", "-t", str(outside), "-n", "ip", "address", "add", f"{service}/32", "dev", "lo"], check=True)
        with inside(outside, lambda: listen(80)):
            assert box.reaches(WORLD, 80)
            assert reaches(service, 80)
            assert box.is_kept_from(service, 80)


@pytest.mark.guest
@pytest.mark.parametrize("change", ["address", "mac", "ipv6"])
def test_a_foreign_address_gets_no_answer(instance: Instance, change: str) -> None:
    liar, honest = instance.box("alice"), instance.box("alice")
    target = honest.endpoint.ip_address
    with honest.listen(80), inside(honest.pid, lambda: socket.create_server(("::", 81), family=socket.AF_INET6)):
        assert liar.reaches(target, 80)
        if change == "address":
            liar.run("ip", "address", "flush", "dev", "eth0")
            liar.run("ip", "address", "add", f"{target.rsplit('.', 1)[0]}.200/20", "dev", "eth0")
        elif change == "mac":
            liar.run("ip", "link", "set", "eth0", "address", "02:42:00:00:00:99")
        else:
            for number, box in enumerate((liar, honest), 1):
                box.run("ip", "address", "add", f"fd00::{number}/64", "dev", "eth0", "nodad")
            target = "fd00::2"
        assert liar.is_kept_from(target, 81 if change == "ipv6" else 80)


@pytest.mark.parametrize("healer", [pytest.param("the next attach", marks=pytest.mark.guest), "reconcile"])
def test_a_flushed_ruleset_is_built_again(instance: Instance, healer: str) -> None:
    alice, other, bob = instance.box("alice"), instance.box("alice"), instance.box("bob")
    with bob.listen(80), other.listen(80):
        nft("flush", "ruleset")
        assert alice.reaches(bob.endpoint.ip_address, 80), "nothing guards now: the test would prove nothing"
        if healer == "reconcile":
            assert instance.networks.reconcile([alice.id, other.id, bob.id]) == []
        else:
            instance.box("carol")
        assert alice.is_kept_from(bob.endpoint.ip_address, 80)
        assert alice.reaches(other.endpoint.ip_address, 80)


@pytest.mark.parametrize("docker", [False, True], ids=["plain", "dockerd"])
def test_a_forward_policy_of_drop_is_lived_with(instance: Instance, outside: int, docker: bool) -> None:
    nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }")
    if docker:
        nft("add chain ip filter DOCKER-USER; add rule ip filter FORWARD jump DOCKER-USER; add rule ip filter DOCKER-USER return")
    box = instance.box("alice")
    with inside(outside, lambda: listen(443)):
        assert box.reaches(WORLD, 443)
    place = "DOCKER-USER" if docker else "FORWARD"
    assert nft("list", "chain", "ip", "filter", place).count(instance.id) == 2
    instance.networks.reconcile([box.id])
    assert nft("list", "chain", "ip", "filter", place).count(instance.id) == 2, "once"
    instance.networks.remove_all()
    assert instance.id not in nft("list", "ruleset")
    assert "DOCKER-USER" in nft("list", "ruleset") or not docker


def test_networks_of_docker_are_left_alone(instance: Instance, outside: int) -> None:
    with process(owned=False) as pid:
        for command in (
            "ip link add docker0 type bridge", "ip address add 172.30.0.1/24 dev docker0", "ip link set docker0 up",
            f"ip link add dveth master docker0 type veth peer name eth0 netns {pid}", "ip link set dveth up",
            f"nsenter -t {pid} -n ip address add 172.30.0.2/24 dev eth0", f"nsenter -t {pid} -n ip link set eth0 up",
            f"nsenter -t {pid} -n ip route add default via 172.30.0.1",
        ):  # fmt: skip
            subprocess.run(command.split(), check=True)
        box = instance.box("alice")
        with inside(pid, lambda: listen(80)), box.listen(80):
            assert reaches("172.30.0.2", 80)
            assert box.is_kept_from("172.30.0.2", 80)
            assert inside(pid, lambda: is_kept_from(box.endpoint.ip_address, 80))


def test_forwarding_is_given_back_by_the_last_instance(new_instance: Callable[[], Instance]) -> None:
    FORWARDING.write_text("0")
    one, other = new_instance(), new_instance()
    assert FORWARDING.read_text() == "0\n", "an engine without containers changes nothing"
    one.box("alice")
    other.box("alice")
    one.networks.remove_all()
    assert FORWARDING.read_text() == "1\n"
    other.networks.remove_all()
    assert FORWARDING.read_text() == "0\n"


@pytest.mark.guest
def test_nothing_is_left_after_remove_all(instance: Instance) -> None:
    links, ruleset = socket.if_nameindex(), nft("list", "ruleset")
    net = instance.network("alice", "net")
    for tenant in ("alice", "alice", "bob"):
        instance.box(tenant)
    instance.box("alice", net)
    assert len(socket.if_nameindex()) == len(links) + 7
    instance.networks.remove_all()
    assert (socket.if_nameindex(), nft("list", "ruleset")) == (links, ruleset)
    assert [path.name for path in (instance.config.engine / "networks").iterdir() if not path.name.startswith(".")] == ["defined"]
    instance.networks.remove_all()
    assert not instance.box("alice", net).reaches("127.0.0.1", 1), "it can begin again, and a network is still known"


def test_remove_tenant_takes_its_bridge_alone(instance: Instance) -> None:
    alice, bob, friend = instance.box("alice"), instance.box("bob"), instance.box("bob")
    os.kill(alice.pid, 9)
    instance.networks.remove_tenant(instance.tenants.get("alice"))
    names = [name for _, name in socket.if_nameindex()]
    assert f"{instance.id}b1" not in names and f"{instance.id}b2" in names
    listed = json.loads(nft("-j", "list", "set", "inet", f"slipway_{instance.id}", "bridges"))
    assert [item["set"]["elem"] for item in listed["nftables"] if "set" in item] == [[f"{instance.id}b2"]]
    with friend.listen(80):
        assert bob.reaches(friend.endpoint.ip_address, 80)
    instance.networks.remove_tenant(instance.tenants.get("alice"))


def test_release_frees_address_and_port(instance: Instance) -> None:
    box, other = instance.box("alice"), instance.box("alice")
    instance.networks.release(box.id)
    instance.networks.release(box.id)
    ports = nft("list", "set", "bridge", f"slipway_{instance.id}", "ports")
    assert box.endpoint.link not in ports and other.endpoint.link in ports


def test_reconcile_frees_the_dead_and_spares_the_young(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    living, dead = instance.box("alice"), instance.box("alice")
    assert instance.networks.reconcile([living.id]) == [], "it may have come after the list was made"
    later = time.time() + YOUNG_S + 1
    monkeypatch.setattr("engine.networks.store.time.time", lambda: later)
    assert instance.networks.reconcile([living.id]) == [dead.id]
    assert instance.networks.reserve(instance.tenants.get("alice"), living.id) == (living.endpoint,)


def test_a_bridge_that_somebody_deleted_is_made_again(instance: Instance) -> None:
    before = instance.box("alice")
    subprocess.run(["ip", "link", "delete", f"{instance.id}b1"], check=True)
    assert instance.networks.is_bridge_missing()
    one, other = instance.box("alice"), instance.box("alice")
    with other.listen(80):
        assert one.reaches(other.endpoint.ip_address, 80)
        instance.networks.heal()
        assert before.reaches(other.endpoint.ip_address, 80), "who was there is there again"


def test_all_bridges_come_back_with_their_ports(instance: Instance) -> None:
    net = instance.network("alice", "net", icc=False)
    usual, own, apart = instance.box("alice"), instance.box("alice", net), instance.box("alice", net)
    instance.networks.publish(own.id, own.endpoint, [PortBinding(container_port=80, host_port=8080)])
    for link in (f"{instance.id}b1", f"{instance.id}bn1"):
        subprocess.run(["ip", "link", "delete", link], check=True)
    with own.listen(80):
        assert not reaches("127.0.0.1", 8080)
        instance.networks.heal()
        assert not instance.networks.is_bridge_missing()
        assert reaches("127.0.0.1", 8080)
        assert apart.is_kept_from(own.endpoint.ip_address, 80)
    with usual.listen(80):
        assert reaches(usual.endpoint.ip_address, 80)


def test_a_process_that_ended_is_said(instance: Instance) -> None:
    tenant = instance.tenants.ensure("alice")
    with process() as pid:
        pass
    with pytest.raises(FailedPrecondition, match="ended before its network"):
        instance.networks.attach(tenant, instance.networks.reserve(tenant, "a" * 64), pid)


def test_64_threads_attach_at_once_and_stay_where_they_are(instance: Instance) -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    tenants = [instance.tenants.ensure(name) for name in ("alice", "bob")]
    pids = [process() for _ in range(64)]
    failures: list[BaseException] = []
    addresses: list[str] = []

    def attach(number: int, pid: int) -> None:
        try:
            tenant = tenants[number % 2]
            reserved = instance.networks.reserve(tenant, f"{number:064x}")
            instance.networks.attach(tenant, reserved, pid)
            addresses.append(reserved[0].ip_address)
            assert os.readlink("/proc/thread-self/ns/net") == here
        except BaseException as error:
            failures.append(error)

    entered = [context.__enter__() for context in pids]
    threads = [threading.Thread(target=attach, args=(number, pid)) for number, pid in enumerate(entered)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for context in pids:
        context.__exit__(None, None, None)
    assert not failures
    assert len(set(addresses)) == 64


def test_no_tenant_fills_the_hosts_connection_table(instance: Instance, outside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "_connections", lambda: 10)
    alice, bob = instance.box("alice"), instance.box("bob")
    with inside(outside, lambda: listen(443)):
        opened = [inside(alice.pid, lambda: socket.create_connection((WORLD, 443), timeout=20)) for _ in range(10)]
        assert alice.is_kept_from(WORLD, 443)
        assert bob.reaches(WORLD, 443)
        for connection in opened:
            connection.close()
