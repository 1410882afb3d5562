"""Containers in networks, found by their names, reached by their ports: at their start, and while they run."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine import ceilings, errors, leaving
from engine.engine import Engine
from engine.images import demo
from engine.model.container import ContainerSpec, ContainerState
from engine.model.execution import ExecSpec
from engine.model.network import EndpointSpec, NetworkSpec, PortBinding
from engine.runtime.client import KeeperClient
from tests.engine.networks.netd import Process
from tests.support.scratch import open_folder

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft")

TENANT = "nets"
SERVE = ("sh", "-c", "echo -e 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' >/answer; while true; do nc -l -p 80 </answer; done")
IDLE = ("sleep", "600")


class Bench:
    def __init__(self, engine: Engine, netd: Process) -> None:
        self.engine, self.netd = engine, netd
        self._image = demo.load(engine.images)

    def network(self, name: str, tenant: str = TENANT, **words: Any) -> str:
        self.engine.ensure_tenant(tenant)
        return self.engine.create_network(NetworkSpec(id=secrets.token_hex(32), tenant=tenant, name=name, **words)).id

    def create(self, name: str, *networks: str | EndpointSpec, args: Sequence[str] = IDLE, tenant: str = TENANT, **words: Any) -> str:
        specs = tuple(EndpointSpec(network_id=each) if isinstance(each, str) else each for each in networks)
        mode = {"network_mode": "user", "networks": specs} if specs else {}
        number = secrets.token_hex(32)
        given: dict[str, Any] = {
            "id": number,
            "tenant": tenant,
            "name": name,
            "image_id": self._image,
            "image": "busybox",
            "args": tuple(args),
        }
        self.engine.create(ContainerSpec(**{**given, **mode, **words}))
        return number

    def run(self, name: str, *networks: str | EndpointSpec, tenant: str = TENANT, **words: Any) -> str:
        number = self.create(name, *networks, tenant=tenant, **words)
        self.engine.start(tenant, number)
        return number

    def state(self, number: str) -> ContainerState:
        return self.engine.records.state(number)

    def says(self, number: str, *command: str, tenant: str = TENANT) -> str:
        """What a command in it writes."""
        asked = ExecSpec(id=secrets.token_hex(32), args=command)
        with self.engine.exec(tenant, number, asked) as done, os.fdopen(done.take("stdout"), "rb") as out:
            return out.read().decode()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_folder() as folder:
        netd = Process(folder)
        netd.start()
        engine = Engine(netd.config)
        try:
            engine.keeper.ensure_running()
            yield Bench(engine, netd)
        finally:
            KeeperClient(netd.config).stop(containers=True)
            leaving.remove_all(Engine(netd.config))
            netd.kill()


@pytest.fixture(autouse=True)
def nothing_left(bench: Bench) -> Iterator[None]:
    yield
    for spec, _state in bench.engine.list():
        bench.engine.remove(spec.tenant, spec.id, force=True)
    for tenant in bench.engine.tenants.list():
        for network in bench.engine.networks.defined(tenant.name):
            bench.engine.remove_network(tenant.name, network.id)
    assert not list(bench.engine.networks._leases.all()) and not bench.engine.networks._rules.published()
    status = bench.netd.client.status()
    assert (status["containers"], status["members"], status["ports"]) == (0, 0, 0)
    assert not [name for _, name in socket.if_nameindex() if name.startswith(f"{bench.engine.instance}bn")]


def fetched(address: str, port: int, patience_s: float = 5.0) -> str:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with socket.create_connection((address, port), timeout=2) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return sock.makefile().read()
        except OSError as error:
            if time.monotonic() > deadline:
                return type(error).__name__
            time.sleep(0.05)


@pytest.mark.guest
def test_names_in_a_network(bench: Bench) -> None:
    net = bench.network("net")
    web = bench.run("web", EndpointSpec(network_id=net, aliases=("www", "site")))
    client = bench.run("client", net)
    address = bench.state(web).endpoints[0].ip_address  # type: ignore[index]
    resolv = bench.says(client, "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11\n" in resolv and "ndots:0" in resolv
    for name in ("web", "www", "site", web[:12], "web.net"):
        assert address in bench.says(client, "nslookup", name), name
    assert "web.net" in bench.says(client, "nslookup", address)
    bench.engine.rename(TENANT, web, "shop")
    assert address in bench.says(client, "nslookup", "shop") and address not in bench.says(client, "nslookup", "web")
    elsewhere = bench.run("elsewhere", bench.network("other"))
    assert address not in bench.says(elsewhere, "nslookup", "shop")


@pytest.mark.guest
def test_connected_and_disconnected_while_it_runs(bench: Bench) -> None:
    front, back = bench.network("front"), bench.network("back")
    db = bench.run("db", back)
    web = bench.run("web", front)
    assert "can't" in bench.says(web, "sh", "-c", "nslookup db 2>&1") or "NXDOMAIN" in bench.says(web, "sh", "-c", "nslookup db 2>&1")
    before = bench.state(web)
    state = bench.engine.connect(TENANT, web, EndpointSpec(network_id=back, aliases=("shop",)))
    assert (state.seq, state.change) > (before.seq, before.change)
    assert [each.interface for each in state.endpoints or ()] == ["eth0", "eth1"]
    assert bench.engine.connect(TENANT, web, EndpointSpec(network_id=back, aliases=("shop",))) == state, "once"
    address = bench.state(db).endpoints[0].ip_address  # type: ignore[index]
    assert address in bench.says(web, "nslookup", "db") and "bytes from" in bench.says(web, "ping", "-c", "1", "-W", "2", "db")
    assert "bytes from" in bench.says(db, "ping", "-c", "1", "-W", "2", "shop")
    resolv, hosts = bench.says(web, "cat", "/etc/resolv.conf"), bench.says(web, "cat", "/etc/hosts")
    assert "127.0.0.11" in resolv and all(each.ip_address in hosts for each in state.endpoints or ())
    gone = bench.engine.disconnect(TENANT, web, front)
    assert [each.spec.network_id for each in gone.endpoints or ()] == [back]
    assert gone.endpoints and f"default via {gone.endpoints[0].gateway}" in bench.says(web, "ip", "route")
    with pytest.raises(errors.PermissionDenied, match="is not connected to network"):
        bench.engine.disconnect(TENANT, web, front)
    assert bench.engine.disconnect(TENANT, web, front, force=True) == gone


def test_names_come_with_the_first_network_that_has_them_and_go_with_the_last(bench: Bench) -> None:
    net = bench.network("net")
    number = bench.run("web")
    before = bench.says(number, "cat", "/etc/resolv.conf")
    bench.engine.connect(TENANT, number, EndpointSpec(network_id=net))
    assert "127.0.0.11" in bench.says(number, "cat", "/etc/resolv.conf")
    bench.engine.disconnect(TENANT, number, net)
    assert bench.says(number, "cat", "/etc/resolv.conf") == before
    bench.says(number, "sh", "-c", "echo nameserver 192.0.2.1 >/etc/resolv.conf")
    bench.engine.connect(TENANT, number, EndpointSpec(network_id=net))
    assert bench.says(number, "cat", "/etc/resolv.conf") == "nameserver 192.0.2.1\n", "what was written in it stays"
    bench.engine.disconnect(TENANT, number, net)


def test_a_stopped_one_is_connected_for_its_next_start(bench: Bench) -> None:
    net = bench.network("net")
    number = bench.create("late")
    state = bench.engine.connect(TENANT, number, EndpointSpec(network_id=net))
    assert [each.spec.network_id for each in state.endpoints or ()] == ["", net] and not any(e.ip_address for e in state.endpoints or ())
    started = bench.engine.start(TENANT, number)
    assert started.ip_address and all(each.ip_address for each in started.endpoints or ())
    bench.engine.kill(TENANT, number, 9)
    bench.engine.wait(number)
    bench.engine.settle(number)
    bench.engine.disconnect(TENANT, number, "")
    again = bench.engine.start(TENANT, number)
    assert [each.interface for each in again.endpoints or ()] == ["eth0"] and not again.ip_address


def test_refusals(bench: Bench) -> None:
    net = bench.network("net")
    alone = bench.create("alone", network_mode="none")
    with pytest.raises(errors.PermissionDenied, match=r"private \(none\) mode"):
        bench.engine.connect(TENANT, alone, EndpointSpec(network_id=net))
    foreign = bench.network("theirs", tenant="strangers")
    number = bench.create("mine")
    with pytest.raises(errors.NotFound, match="not found"):
        bench.engine.connect(TENANT, number, EndpointSpec(network_id=foreign))
    started = bench.run("there", net)
    with pytest.raises(errors.PermissionDenied, match="has active endpoints"):
        bench.engine.remove_network(TENANT, net)
    taken = bench.state(started).endpoints[0].ip_address  # type: ignore[index]
    late = bench.create("late", EndpointSpec(network_id=net, ip_address=taken))
    with pytest.raises(errors.PermissionDenied, match="Address already in use"):
        bench.engine.start(TENANT, late)
    assert bench.state(late).error == "Address already in use"


@pytest.mark.guest
def test_a_published_port(bench: Bench) -> None:
    number = bench.run("web", args=SERVE, ports=(PortBinding(container_port=80, host_port=18080), PortBinding(container_port=80)))
    first, free = bench.state(number).ports or ()
    assert (first.host_port, free.host_port > 1024) == (18080, True)
    for port in (first.host_port, free.host_port):
        for address in ("127.0.0.1", "::1"):
            assert "hello" in fetched(address, port), (address, port)
    other = bench.create("other", args=SERVE, ports=(PortBinding(container_port=80, host_port=18080),))
    with pytest.raises(errors.EngineError, match="port is already allocated"):
        bench.engine.start(TENANT, other)
    bench.engine.remove(TENANT, number, force=True)
    assert "hello" not in fetched("127.0.0.1", 18080, 0)
    bench.engine.start(TENANT, other)
    assert "hello" in fetched("127.0.0.1", 18080)


def test_a_port_that_the_host_has(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 18081)):
        number = bench.create("web", args=SERVE, ports=(PortBinding(container_port=80, host_port=18081),))
        with pytest.raises(errors.EngineError, match="address already in use"):
            bench.engine.start(TENANT, number)
    assert bench.engine.start(TENANT, number).has_process


@pytest.mark.guest
def test_ports_change_while_it_runs(bench: Bench) -> None:
    net = bench.network("net")
    number = bench.run("web", net, args=SERVE)
    assert bench.state(number).ports == ()
    state = bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_port=18082)])
    assert state.ports == (PortBinding(container_port=80, host_port=18082),) and "hello" in fetched("127.0.0.1", 18082)
    bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_port=18083)])
    assert "hello" in fetched("127.0.0.1", 18083) and "hello" not in fetched("127.0.0.1", 18082, 0)
    with socket.create_server(("0.0.0.0", 18084)), pytest.raises(errors.EngineError, match="address already in use"):
        bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_port=18084)])
    assert "hello" in fetched("127.0.0.1", 18083), "after an error everything is as before"
    bench.engine.kill(TENANT, number, 9)
    bench.engine.wait(number)
    bench.engine.settle(number)
    assert bench.engine.start(TENANT, number).ports == (PortBinding(container_port=80, host_port=18083),), "it keeps them"


def test_the_default_route_moves_and_the_ports_with_it(bench: Bench) -> None:
    """A port leads to the address of the network that the default route goes by."""
    front, a = bench.network("front"), bench.network("a")
    number = bench.run("web", front, args=SERVE, ports=(PortBinding(container_port=80, host_port=18085),))
    assert "hello" in fetched("127.0.0.1", 18085)
    bench.engine.connect(TENANT, number, EndpointSpec(network_id=a))
    assert "hello" in fetched("127.0.0.1", 18085)
    bench.engine.disconnect(TENANT, number, front)
    assert "hello" in fetched("127.0.0.1", 18085)


def test_a_connect_that_fails_leaves_everything_as_it_was(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    front, a = bench.network("front"), bench.network("a")
    number = bench.run("web", front, args=SERVE, ports=(PortBinding(container_port=80, host_port=18088),))
    before, members = bench.state(number), bench.netd.client.status()["members"]
    routes = bench.says(number, "ip", "route")

    def fails(*_: object) -> None:
        raise errors.Internal("no descriptor is free")

    with monkeypatch.context() as patch:
        patch.setattr(bench.engine.netd, "serve", fails)
        with pytest.raises(errors.Internal, match="no descriptor"):
            bench.engine.connect(TENANT, number, EndpointSpec(network_id=a))  # it would take the default route, and the ports
    assert bench.says(number, "ip", "route") == routes and bench.state(number) == before
    assert "hello" in fetched("127.0.0.1", 18088) and bench.netd.client.status()["members"] == members
    assert bench.engine.connect(TENANT, number, EndpointSpec(network_id=a)).endpoints


@pytest.mark.guest
@pytest.mark.requires("sctp")
def test_a_port_of_sctp_leads_to_its_container(bench: Bench) -> None:
    """No busybox speaks it, so the server is one of the host's programs in the container's network."""
    number = bench.run("telecom", ports=(PortBinding(container_port=9000, host_port=19090, protocol="sctp"),))
    serve = "import socket\ns = socket.socket(2, 1, 132)\ns.bind(('0.0.0.0', 9000))\ns.listen()\nprint(flush=True)\n"
    serve += "c, _ = s.accept()\nc.sendall(b'by sctp')\nc.recv(1)"
    command = ["nsenter", "-t", str(bench.state(number).pid), "-n", "/usr/bin/python3", "-c", serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"\n"
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as sock:
                sock.settimeout(20)
                sock.connect(("127.0.0.1", 19090))
                assert sock.recv(100) == b"by sctp"
        finally:
            server.kill()


def test_the_ceiling_of_ports(bench: Bench) -> None:
    number = bench.run("web", args=SERVE)
    ceilings.change(bench.engine.config, TENANT, ports="18090-18099,443")
    try:
        with pytest.raises(errors.PermissionDenied, match="port 18100 may not be published"):
            bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_port=18100)])
        assert bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_port=18090, host_port_end=18099)]).ports
    finally:
        ceilings.change(bench.engine.config, TENANT, ports="")


def test_the_ceiling_of_addresses(bench: Bench) -> None:
    number = bench.run("web", args=SERVE)
    ceilings.change(bench.engine.config, TENANT, addresses="127.0.0.1,127.0.1.0/24")
    try:
        for address, words in (("127.0.2.1", "127.0.2.1"), ("", "every address"), ("0.0.0.0", "0.0.0.0")):
            sentence = f"ports may not be published on {words}: this host's ceiling grants the tenant 127.0.0.1, 127.0.1.0/24"
            with pytest.raises(errors.PermissionDenied, match=sentence):
                bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_ip=address)])
        for address in ("127.0.0.1", "127.0.1.7"):
            (port,) = bench.engine.publish(TENANT, number, [PortBinding(container_port=80, host_ip=address)]).ports or ()
            assert fetched(address, port.host_port, 20.0).endswith("hello\n")
    finally:
        ceilings.change(bench.engine.config, TENANT, addresses="all")


def test_links_on_the_default_bridge(bench: Bench) -> None:
    db = bench.run("db")
    web = bench.run("web", EndpointSpec(links=(f"{db}:store",)), network_mode="bridge")
    hosts = bench.says(web, "cat", "/etc/hosts")
    assert f"{bench.state(db).ip_address}\tstore {db[:12]} db\n" in hosts
    bench.engine.kill(TENANT, db, 9)
    bench.engine.wait(db)
    late = bench.create("late", EndpointSpec(links=(f"{db}:store",)), network_mode="bridge")
    with pytest.raises(errors.InvalidArgument, match="Cannot link to a non running container: /db AS /late/store"):
        bench.engine.start(TENANT, late)


@pytest.mark.guest
def test_netd_killed_and_back(bench: Bench) -> None:
    net = bench.network("net")
    web = bench.run("web", net, args=SERVE, ports=(PortBinding(container_port=80, host_port=18086),))
    client = bench.run("client", net)
    bench.netd.kill()
    assert "hello" in fetched("127.0.0.1", 18086), "IPv4 needs it for the start alone"
    late = bench.run("late", net)
    bench.netd.start()
    address = bench.state(web).endpoints[0].ip_address  # type: ignore[index]
    for number in (client, late):
        assert address in bench.says(number, "nslookup", "web")
    assert "hello" in fetched("::1", 18086)


def test_a_host_without_netd_says_so(bench: Bench) -> None:
    bench.netd.kill()
    try:
        number = bench.create("web", args=SERVE, ports=(PortBinding(container_port=80, host_port=18087),))
        with pytest.raises(errors.Unavailable):
            bench.engine.start(TENANT, number)
    finally:
        bench.netd.start()
    assert bench.engine.start(TENANT, number).has_process


def test_the_files_of_one_without_a_network(bench: Bench, tmp_path: Path) -> None:
    number = bench.run("alone", network_mode="none")
    assert "localhost" in bench.says(number, "cat", "/etc/hosts") and "nameserver" in bench.says(number, "cat", "/etc/resolv.conf")
    assert bench.state(number).endpoints is None
