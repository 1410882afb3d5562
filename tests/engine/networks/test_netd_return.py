"""netd is killed, and the keeper starts another: what containers see of that, with the real keeper and real containers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.model.network import PortBinding
from engine.networks.names import Member, Names
from engine.networks.netd_client import NetdClient
from tests.engine.networks import netd as netds
from tests.engine.networks.netd import ask, eventually
from tests.engine.runtime import launching

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft")
NETWORK = "f" * 64
MANY = 100


@pytest.fixture
def engine(host: None) -> Iterator[launching.Host]:
    with launching.host() as running:
        yield running


@pytest.fixture
def client(engine: launching.Host) -> Iterator[NetdClient]:
    found = NetdClient(engine.config)
    engine.keeper.supervise("netd", [sys.executable, "-S", "-m", "engine.networks.netd"], {"PYTHONPATH": os.getcwd()})
    eventually(lambda: answers(found))
    yield found
    found.close()


def answers(client: NetdClient) -> bool:
    try:
        client.status()
    except errors.Unavailable:
        return False
    return True


def kill(engine: launching.Host) -> None:
    os.kill(engine.keeper.parts()["netd"]["pid"], signal.SIGKILL)


def served(client: NetdClient, container: Any, name: str, address: str) -> None:
    netds.up(container.pid)
    client.enter(NETWORK, "front", Member(container.id, name, (), address))
    with open(f"/proc/{container.pid}/ns/net") as netns:
        client.serve(container.id, netns.fileno(), Names((NETWORK,)))


def test_names_and_ports_are_back_after_a_kill(engine: launching.Host, client: NetdClient) -> None:
    """Many containers in a second; what was said while it was away counts; nobody else's namespace is entered."""
    with ExitStack() as stack:
        containers = [stack.enter_context(engine.running("sleep", "1d")) for _ in range(3)]
        web, db, late = containers
        for index, container in enumerate((web, db)):
            served(client, container, ("web", "db")[index], f"172.20.0.{index}")
        for number in range(MANY):
            client.hold(f"{number:064x}", [PortBinding(container_port=80), PortBinding(container_port=53, protocol="udp")])
        (held,) = client.hold(web.id, [PortBinding(container_port=80, host_port=8080)])
        kill(engine)
        client.enter(NETWORK, "front", Member(late.id, "late", (), "172.20.0.9"))
        client.leave(NETWORK, db.id)
        since = time.monotonic()
        eventually(lambda: answers(client))
        assert time.monotonic() - since < 3
        assert client.status() == {"containers": 2, "members": 2, "ports": 2 * MANY + 1, "flows": 0, "waiting": 0}
        assert ask(web.pid, "late").addresses == ask(db.pid, "late", tcp=True).addresses == ["172.20.0.9"]
        assert ask(web.pid, "db").rcode == 2
        with pytest.raises(errors.FailedPrecondition, match="port is already allocated"):
            client.hold(db.id, [held])
        with pytest.raises(OSError, match="in use"), socket.socket() as sock:
            sock.bind(("127.0.0.1", 8080))
        client.forget(web.id)
        client.forget(db.id)


def test_a_container_of_the_time_without_netd_is_served_when_it_comes(engine: launching.Host, client: NetdClient) -> None:
    kill(engine)
    with engine.running("sleep", "1d") as container:
        served(client, container, "web", "172.20.0.1")
        eventually(lambda: answers(client))
        eventually(lambda: ask(container.pid, "web").addresses == ["172.20.0.1"])
        client.forget(container.id)


def test_one_that_ended_meanwhile_is_not_looked_for(engine: launching.Host, client: NetdClient) -> None:
    with engine.running("sleep", "1d") as container:
        served(client, container, "web", "172.20.0.1")
        kill(engine)
    eventually(lambda: answers(client))
    assert client.status()["containers"] == 0
    assert client.clear([], older_than_s=0) == [container.id]


def test_a_port_that_another_took_meanwhile_is_had_again_when_it_is_free(engine: launching.Host, client: NetdClient) -> None:
    owner = "a" * 64
    client.hold(owner, [PortBinding(container_port=80, host_port=8080)])
    pid = engine.keeper.parts()["netd"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while True:
            try:
                thief.bind(("127.0.0.1", 8080))
                break
            except OSError:
                assert time.monotonic() < deadline
        thief.listen()
        eventually(lambda: answers(client))
        with pytest.raises(errors.FailedPrecondition, match="port is already allocated"):
            client.hold("b" * 64, [PortBinding(container_port=80, host_port=8080)])
    eventually(lambda: not can_bind(8080))
    client.release(owner)
    assert can_bind(8080)


def can_bind(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_the_second_of_two_takes_the_place(engine: launching.Host, client: NetdClient) -> None:
    """A keeper that was killed between starting it and noting it leaves one behind."""
    first = engine.keeper.parts()["netd"]["pid"]
    with engine.running("sleep", "1d") as container:
        served(client, container, "web", "172.20.0.1")
        client.hold(container.id, [PortBinding(container_port=80, host_port=8080)])
        environment = {**os.environ, "SLIPWAY_DATA": str(engine.config.data), "SLIPWAY_RUN": str(engine.config.run)}
        second = subprocess.Popen([sys.executable, "-S", "-m", "engine.networks.netd"], env=environment)
        try:
            eventually(lambda: not Path(f"/proc/{first}").exists() or engine.keeper.parts()["netd"]["pid"] != first)
            eventually(lambda: answers(client) and ask(container.pid, "web").addresses == ["172.20.0.1"])
            eventually(lambda: not can_bind(8080))
        finally:
            second.kill()
            second.wait()
        client.forget(container.id)


def test_descriptors_of_namespaces_are_not_kept_by_the_client(engine: launching.Host, client: NetdClient) -> None:
    with engine.running("sleep", "1d") as container:
        served(client, container, "web", "172.20.0.1")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            served(client, container, "web", "172.20.0.1")
        assert len(os.listdir("/proc/self/fd")) <= before
        client.forget(container.id)
