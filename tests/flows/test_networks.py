"""Networks and published ports as the docker client sees them: names, live connects, ports that change, other tenants, a killed web."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import machine
from tests.support.platform import Platform, free_port

pytestmark = pytest.mark.requires("root", "overlay", "userns", "cgroup", "docker")

SITE = "mkdir /w; echo {words} > /w/index.html; exec httpd -f -p {port} -h /w"


@pytest.fixture
def docker(platform: Platform) -> Iterator[Callable[..., str]]:
    """The client in a tenant of its own; what it made is gone afterwards."""
    yield from _client(platform, "weaver")


@pytest.fixture
def theirs(platform: Platform) -> Iterator[Callable[..., str]]:
    yield from _client(platform, "spider")


def _client(platform: Platform, tenant: str) -> Iterator[Callable[..., str]]:
    platform.tenant(tenant)

    def run(*words: str, check: bool = True) -> str:
        done = platform.docker(*words, tenant=tenant, check=check)
        return (done.stdout if check else done.stdout + done.stderr).strip()

    yield run
    if left := run("ps", "-aq"):
        run("rm", "-f", *left.split())
    if left := run("network", "ls", "-q", "-f", "type=custom"):
        run("network", "rm", *left.split())


def shown(docker: Callable[..., str], name: str, what: str) -> Any:
    return json.loads(docker("inspect", "-f", f"{{{{json {what}}}}}", name))


def fetch(address: str, within_s: float = 10.0) -> str:
    """What is served there; "" while nothing answers."""
    until = time.monotonic() + within_s * machine.slowness()
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(address, timeout=3) as answer:
                return str(answer.read().decode()).strip()
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    return ""


def rest(platform: Platform, method: str, path: str, body: Any = None) -> Any:
    token = platform.manage("token", "create", "--tenant", "weaver").stdout.strip()
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{platform.url}/api/v1/tenants/weaver/{path}", data=data, method=method, headers=headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


@pytest.mark.guest
def test_containers_of_a_network_find_each_other_by_name_and_leave_it_live(docker: Callable[..., str]) -> None:
    since = f"{time.time():.9f}"
    docker("network", "create", "--label", "team=shop", "front")
    docker("network", "create", "--internal", "back")
    assert docker("network", "ls", "--format", "{{.Name}} {{.Driver}}").split("\n") == [
        "back bridge",
        "bridge bridge",
        "front bridge",
        "none null",
    ]
    docker("run", "-d", "--name", "web", "--network", "front", "--network-alias", "www", "busybox", "sleep", "1000")
    docker("run", "-d", "--name", "db", "--network", "back", "busybox", "sleep", "1000")
    assert "1 packets received" in docker("run", "--rm", "--network", "front", "busybox", "ping", "-c", "1", "-W", "3", "www")
    assert "bad address" in docker("exec", "web", "ping", "-c", "1", "-W", "1", "db", check=False)
    docker("network", "connect", "--alias", "shop", "back", "web")
    assert "1 packets received" in docker("exec", "web", "ping", "-c", "1", "-W", "3", "db")
    assert "1 packets received" in docker("exec", "db", "ping", "-c", "1", "-W", "3", "shop")
    networks = shown(docker, "web", ".NetworkSettings.Networks")
    short = shown(docker, "web", ".Id")[:12]  # a client of 2020 gets it as an alias, too
    assert sorted(networks) == ["back", "front"] and set(networks["back"]["Aliases"]) - {short} == {"shop"}
    inside = json.loads(docker("network", "inspect", "-f", "{{json .Containers}}", "back"))
    assert sorted(member["Name"] for member in inside.values()) == ["db", "web"]
    assert "has active endpoints" in docker("network", "rm", "back", check=False)
    docker("network", "disconnect", "back", "web")
    assert "bad address" in docker("exec", "web", "ping", "-c", "1", "-W", "1", "db", check=False)
    docker("rm", "-f", "web", "db")
    assert docker("network", "rm", "front") == "front"
    assert docker("network", "prune", "-f") == "Deleted Networks:\nback"
    told = docker(
        "events",
        "--since",
        since,
        "--until",
        f"{time.time():.9f}",
        "--filter",
        "type=network",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    )
    assert [line for line in told.split("\n") if line.startswith(("create", "destroy", "prune"))] == [
        "create front", "create back", "destroy front", "destroy back", "prune ",
    ] or "prune" in told  # fmt: skip
    assert told.count("connect back") >= 2 and "disconnect back" in told


def test_ipv6_beside_ipv4(docker: Callable[..., str], theirs: Callable[..., str], platform: Platform) -> None:
    docker("network", "create", "--ipv6", "six")
    chosen = json.loads(docker("network", "inspect", "six"))[0]
    assert chosen["EnableIPv6"] is True and [":" in config["Subnet"] for config in chosen["IPAM"]["Config"]] == [False, True]
    docker("network", "create", "--ipv6", "--subnet", "10.233.70.0/24", "--subnet", "fd00:7::/64", "--gateway", "fd00:7::fe", "fixed")
    refused = theirs("network", "create", "--ipv6", "--subnet", "fd00:7::/48", "taken", check=False)
    assert "invalid pool request: Pool overlaps with other one on this address space" in refused
    port, where = free_port(), ("--network", "fixed", "--ip6", "fd00:7::7")
    docker("run", "-d", "--name", "web", "-p", f"{port}:80", *where, "busybox", "sh", "-c", SITE.format(words="six", port=80))
    assert [fetch(f"http://{address}:{port}/") for address in ("[fd00:7::fe]", "[::1]", "127.0.0.1")] == ["six"] * 3
    point = shown(docker, "web", ".NetworkSettings.Networks")["fixed"]
    assert (point["GlobalIPv6Address"], point["GlobalIPv6PrefixLen"], point["IPv6Gateway"]) == ("fd00:7::7", 64, "fd00:7::fe")
    assert (point["IPAMConfig"], point["IPAddress"][:10]) == ({"IPv6Address": "fd00:7::7"}, "10.233.70.")
    assert "fd00:7::7\t" in docker("exec", "web", "cat", "/etc/hosts")
    assert "1 packets received" in docker("run", "--rm", "--network", "fixed", "busybox", "ping", "-6", "-c", "1", "-W", "3", "web")
    docker("network", "connect", "six", "web")
    mine = shown(docker, "web", ".NetworkSettings.Networks")["six"]["GlobalIPv6Address"]
    assert f"{mine}/64" in docker("exec", "web", "ip", "-6", "addr", "show", "eth1")
    docker("network", "disconnect", "six", "web")
    assert mine not in docker("exec", "web", "cat", "/etc/hosts") + docker("exec", "web", "ip", "-6", "addr")
    told = rest(platform, "GET", "networks/fixed")
    assert (told["ipv6"], told["ipv6_subnet"], told["members"][0]["ipv6_address"]) == (True, "fd00:7::/64", "fd00:7::7")


def test_ipv6_alone(docker: Callable[..., str], platform: Platform) -> None:
    docker("network", "create", "--ipv6", "--ipv4=false", "--subnet", "fd00:6::/64", "alone")
    (told,) = json.loads(docker("network", "inspect", "alone"))
    assert (told["EnableIPv4"], told["EnableIPv6"], told["IPAM"]["Config"]) == (
        False, True, [{"Subnet": "fd00:6::/64", "Gateway": "fd00:6::1"}],
    )  # fmt: skip
    port, where = free_port(), ("--network", "alone", "--ip6", "fd00:6::7")
    docker("run", "-d", "--name", "web", "-p", f"{port}:80", *where, "busybox", "sh", "-c", SITE.format(words="six", port=80))
    assert [fetch(f"http://{address}:{port}/") for address in ("[fd00:6::1]", "[::1]")] == ["six"] * 2
    point = shown(docker, "web", ".NetworkSettings.Networks")["alone"]
    assert (point["IPAddress"], point["Gateway"], point["IPPrefixLen"]) == ("", "", 0)
    assert (point["GlobalIPv6Address"], point["IPv6Gateway"], bool(point["EndpointID"])) == ("fd00:6::7", "fd00:6::1", True)
    assert docker("port", "web").strip() == f"80/tcp -> [::]:{port}"
    assert "1 packets received" in docker("run", "--rm", "--network", "alone", "busybox", "ping", "-6", "-c", "1", "-W", "3", "web")
    (member,) = rest(platform, "GET", "networks/alone")["members"]
    assert (member["ip_address"], member["ipv6_address"]) == ("", "fd00:6::7")
    docker("network", "create", "plain")
    docker("network", "connect", "plain", "web")
    assert fetch(f"http://127.0.0.1:{port}/") == "six", "by IPv4, too, from now on"
    docker("network", "disconnect", "plain", "web")
    assert fetch(f"http://[::1]:{port}/") == "six"
    docker("network", "connect", "plain", "web")
    assert fetch(f"http://127.0.0.1:{port}/") == "six", "it was held meanwhile"


def test_addresses_and_links_are_as_asked(docker: Callable[..., str]) -> None:
    docker("network", "create", "--subnet", "10.233.77.0/24", "--gateway", "10.233.77.254", "fixed")
    docker(
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "fixed",
        "--ip",
        "10.233.77.7",
        "--mac-address",
        "02:11:22:33:44:55",
        "busybox",
        "sleep",
        "1000",
    )
    point = shown(docker, "web", ".NetworkSettings.Networks")["fixed"]
    assert (point["IPAddress"], point["MacAddress"], point["Gateway"]) == ("10.233.77.7", "02:11:22:33:44:55", "10.233.77.254")
    assert "10.233.77.7/24" in docker("exec", "web", "ip", "-4", "addr", "show", "eth0")
    assert "default via 10.233.77.254" in docker("exec", "web", "ip", "route")
    taken = docker("run", "--rm", "--network", "fixed", "--ip", "10.233.77.7", "busybox", "true", check=False)
    assert "already in use" in taken.lower()
    assert "no configured subnet" in docker("run", "--rm", "--network", "fixed", "--ip", "10.9.9.9", "busybox", "true", check=False)
    assert "Pool overlaps" in docker("network", "create", "--subnet", "10.233.77.0/25", "again", check=False)
    docker("run", "-d", "--name", "db", "busybox", "sleep", "1000")
    assert "1 packets received" in docker("run", "--rm", "--link", "db:store", "busybox", "ping", "-c", "1", "-W", "3", "store")


def in_brackets(said: str) -> str:
    """An address as clients write it since 2021."""
    return re.sub(r":::(\d)", r"[::]:\1", said)


@pytest.mark.guest
def test_published_ports_answer_and_change_while_the_container_runs(platform: Platform, docker: Callable[..., str]) -> None:
    first, second = free_port(), free_port()
    docker(
        "run", "-d", "--name", "web", "-p", f"{first}:80", "-p", "127.0.0.1::81", "busybox", "sh", "-c", SITE.format(words="hello", port=80)
    )
    assert fetch(f"http://127.0.0.1:{first}/") == fetch(f"http://[::1]:{first}/") == "hello"
    assert in_brackets(docker("port", "web", "80")).split("\n") == [f"0.0.0.0:{first}", f"[::]:{first}"]
    assert f"0.0.0.0:{first}->80/tcp, [::]:{first}->80/tcp" in in_brackets(docker("ps", "--format", "{{.Ports}}"))
    assert docker("ps", "-q", "--filter", f"publish={first}") and not docker("ps", "-q", "--filter", "publish=80")
    pid = shown(docker, "web", ".State.Pid")
    changed = rest(platform, "PUT", "containers/web/ports", {"ports": [f"{second}:80"]})
    assert [(port["host_port"], port["container_port"]) for port in changed] == [(second, 80)]
    assert fetch(f"http://127.0.0.1:{second}/") == "hello" and fetch(f"http://127.0.0.1:{first}/", within_s=0.5) == ""
    assert in_brackets(docker("port", "web")) == f"80/tcp -> 0.0.0.0:{second}\n80/tcp -> [::]:{second}"
    assert shown(docker, "web", ".State.Pid") == pid
    docker("restart", "-t", "0", "web")
    assert fetch(f"http://127.0.0.1:{second}/") == "hello"
    said = docker("run", "-d", "--name", "late", "-p", f"{second}:80", "busybox", "sleep", "1000", check=False)
    assert "port is already allocated" in said
    docker("rm", "-f", "web", "late")
    assert fetch(f"http://127.0.0.1:{second}/", within_s=0.5) == ""


def test_another_tenants_networks_and_containers_do_not_exist(docker: Callable[..., str], theirs: Callable[..., str]) -> None:
    number = docker("network", "create", "secret")
    theirs("network", "create", "own")
    theirs("run", "-d", "--name", "spy", "--network", "own", "busybox", "sleep", "1000")
    for words in (
        ("network", "inspect", number),
        ("network", "rm", number),
        ("network", "connect", number, "spy"),
        ("run", "--rm", "--network", number, "busybox", "true"),
        ("run", "--rm", "--network", "secret", "busybox", "true"),
    ):
        said = theirs(*words, check=False)
        assert "not found" in said.lower(), said
    assert "secret" not in theirs("network", "ls", "--format", "{{.Name}}")
    docker("run", "-d", "--name", "vault", "--network", "secret", "busybox", "sleep", "1000")
    assert "bad address" in theirs("exec", "spy", "ping", "-c", "1", "-W", "1", "vault", check=False)
    address = shown(docker, "vault", ".NetworkSettings.Networks")["secret"]["IPAddress"]
    assert "0 packets received" in theirs("exec", "spy", "ping", "-c", "1", "-W", "1", address, check=False)


def test_a_limit_of_networks_and_of_ports(platform: Platform, docker: Callable[..., str]) -> None:
    port = free_port()
    platform.manage("tenant", "quota", "weaver", "--networks", "1")
    platform.manage("tenant", "policy", "weaver", "--deny", "ports", "--allow", f"ports={port}-{port + 1}")
    try:
        docker("network", "create", "one")
        assert "networks is limited to 1" in docker("network", "create", "two", check=False)
        assert "rule policy.ports" in docker("run", "--rm", "-p", "9:9", "busybox", "true", check=False)
        docker("run", "-d", "--name", "web", "-p", "80", "busybox", "sleep", "1000")
        assert docker("port", "web", "80").split("\n")[0] in (f"0.0.0.0:{port}", f"0.0.0.0:{port + 1}")
    finally:
        platform.manage("tenant", "quota", "weaver", "--networks", "0")
        platform.manage("tenant", "policy", "weaver", "--allow", "ports")


def test_a_web_that_is_killed_in_the_middle_leaves_nothing_half_made(platform: Platform, docker: Callable[..., str]) -> None:
    for number in range(3):
        asking = subprocess.Popen(
            ["docker", "network", "create", f"n{number}"],
            env={**os.environ, "DOCKER_HOST": f"unix://{platform.socket('weaver')}"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        time.sleep(0.02 * number + 0.03)
        os.kill(platform.part("web")["pid"], signal.SIGKILL)
        asking.communicate(timeout=60)
        platform.wait_healthy(30 * machine.slowness())
        names = docker("network", "ls", "-f", "type=custom", "--format", "{{.Name}}").split()
        if f"n{number}" in names:
            docker("run", "--rm", "--network", f"n{number}", "busybox", "true")
            docker("network", "rm", f"n{number}")
        else:
            docker("network", "create", f"n{number}")
            docker("network", "rm", f"n{number}")
    assert docker("network", "ls", "-q", "-f", "type=custom") == ""


@pytest.mark.guest
def test_what_an_administrator_takes_away_comes_back(platform: Platform, docker: Callable[..., str]) -> None:
    """Within ten seconds a published port answers again."""
    port, instance = free_port(), (platform.data / "engine" / "instance").read_text().strip()
    docker("network", "create", "front")
    docker(
        "run", "-d", "--name", "web", "--network", "front", "-p", f"{port}:80", "busybox", "sh", "-c", SITE.format(words="here", port=80)
    )
    address = f"http://127.0.0.1:{port}/"
    assert fetch(address) == "here"
    tables = [f"delete table {family} slipway_{instance}" for family in ("inet", "bridge")]  # a flush would take others' tables as well
    subprocess.run(["nft", "; ".join(tables)], check=True)
    assert fetch(address) == "here"
    (link,) = {name for _, name in socket.if_nameindex() if name.startswith(f"{instance}bn")}
    subprocess.run(["ip", "link", "delete", link], check=True)
    assert fetch(address) == "here"
    for part in ("agent", "netd", "keeper"):
        os.kill(platform.part(part)["pid"], signal.SIGKILL)
        assert fetch(address) == fetch(address.replace("127.0.0.1", "[::1]")) == "here"
    platform.wait_healthy(30 * machine.slowness())
