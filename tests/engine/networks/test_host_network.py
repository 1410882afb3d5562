"""Containers in the machine's own network: who may, what they see, and what they still cannot do or reach."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import ceilings
from engine.engine import Engine
from engine.errors import InvalidArgument, PermissionDenied
from engine.model.bandwidth import Bandwidth
from engine.model.container import ContainerSpec
from engine.model.execution import ExecSpec
from engine.runtime.logs import LogReader
from tests.engine.builds.building import TENANT, bench
from tests.engine.runtime.keeping import until

pytestmark = [pytest.mark.requires("root", "overlay", "userns", "cgroup", "nft"), pytest.mark.guest]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with bench() as place:
        yield place.engine


def begin(engine: Engine, command: str, *, tenant: str = TENANT, **words: Any) -> ContainerSpec:
    number = secrets.token_hex(32)
    image_id = engine.images.resolve(tenant, "busybox").id
    words = {"network_mode": "host", **words}
    spec = ContainerSpec(id=number, tenant=tenant, name=f"c{number[:8]}", image_id=image_id, image="x", args=("sh", "-c", command), **words)
    engine.create(spec)
    engine.start(tenant, number)
    return spec


def said(engine: Engine, command: str, **words: Any) -> list[str]:
    spec = begin(engine, command, **words)
    engine.wait(spec.id, timeout_s=30)
    lines = b"".join(LogReader(engine.config.container(spec.id) / "log", frames=False)).decode().splitlines()
    engine.remove(spec.tenant, spec.id)
    return lines


def test_only_who_was_granted_it_gets_it(engine: Engine) -> None:
    with pytest.raises(PermissionDenied, match=r"root of this host grants it .* ceiling --host-network"):
        begin(engine, "true")
    assert not engine.list()
    ceilings.change(engine.config, TENANT, host_network=True)
    for words in ({"bandwidth": Bandwidth(into=1 << 20)}, {"sysctls": {"net.core.somaxconn": "9"}}):
        with pytest.raises(InvalidArgument, match="host"):
            begin(engine, "true", **words)


def test_it_is_the_machines_and_it_has_no_power_over_it(engine: Engine) -> None:
    ceilings.change(engine.config, TENANT, host_network=True)
    look = "readlink /proc/self/ns/net; ls /sys/class/net | wc -l; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert said(engine, look) == [
        os.readlink("/proc/self/ns/net"),
        str(len(os.listdir("/sys/class/net"))),
        os.uname().nodename,
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip(),
    ]
    assert "\n".join(said(engine, "cat /etc/hosts /etc/resolv.conf")) == "\n".join(
        (Path("/etc/hosts").read_text() + Path("/etc/resolv.conf").read_text()).splitlines()
    )
    tries = "ip link add slipwaytest type dummy; echo 1 > /proc/sys/net/ipv4/ip_forward; nc -l -p 99; ping -c1 ::1; touch /sys/x; id -u"
    *refused, last = said(engine, f"({tries}) 2>&1", cap_add=("NET_ADMIN", "SYS_ADMIN"))
    assert last == "0" and len([line for line in refused if "ermitted" in line or "ermission" in line or "ead-only" in line]) >= 4, refused
    assert "slipwaytest" not in os.listdir("/sys/class/net")


def test_what_it_reaches(engine: Engine) -> None:
    """The host's loopback, which is what was granted; no address of a container's, and no socket of ours by an abstract name."""
    ceilings.change(engine.config, TENANT, host_network=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        spec = begin(engine, f"echo hello | nc -w 1 127.0.0.1 {server.getsockname()[1]}; exec sleep 1000")
        with server.accept()[0] as peer:
            assert peer.recv(100) == b"hello\n"
    for tenant in (TENANT, "neighbour"):
        engine.ensure_tenant(tenant)
        other = begin(engine, "while :; do echo inside | nc -l -p 80; done", tenant=tenant, network_mode="bridge")
        address = engine.state(tenant, other.id).ip_address

        def answers(address: str = address) -> bool:
            with socket.socket() as sock:
                sock.settimeout(2)
                return sock.connect_ex((address, 80)) == 0

        until(answers)
        assert run_in(engine, spec, f"nc -w 1 {address} 80 </dev/null || echo nobody") == b"nobody\n"
        engine.remove(tenant, other.id, force=True)
    with pytest.raises(PermissionDenied, match="cannot be connected to any other network"):
        engine.connect(TENANT, spec.id, engine.records.wanted(begin(engine, "true", network_mode="bridge"))[0][0])
    with pytest.raises(InvalidArgument, match="ask for that"):
        begin(engine, "true", network_mode=f"container:{spec.id}")
    ours = [line for line in Path("/proc/net/unix").read_text().splitlines() if str(engine.config.run) in line or "slipway" in line]
    assert ours and not [line for line in ours if line.split()[-1].startswith("@")]
    assert "networks" not in engine.sample(spec.id)
    engine.remove(TENANT, spec.id, force=True)


def run_in(engine: Engine, spec: ContainerSpec, command: str) -> bytes:
    asked = ExecSpec(id=secrets.token_hex(32), args=("sh", "-c", command))
    with engine.exec(spec.tenant, spec.id, asked) as done, os.fdopen(done.take("stdout"), "rb") as out:
        return out.read()
