"""Networks and ports as clients see them. What needs a host is in tests/flows/test_networks.py."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from controlpanel.containers import projection as containers
from controlpanel.containers.models import Container
from controlpanel.hosts.models import Host
from controlpanel.networks import projection as networks
from controlpanel.networks.models import Network
from controlpanel.tenants.models import Tenant
from engine.model import codec
from engine.model.container import Status
from engine.model.network import EndpointSpec, EndpointState, PortBinding
from tests.controlpanel.dockerapi import golden
from tests.controlpanel.dockerapi.conftest import Api, put_container

N1, S1 = "1a" * 32, "1b" * 32


def put_network(name: str, number: str, *, tenant: str = "demo", **words: Any) -> None:
    Network.everywhere.create(
        tenant=Tenant.objects.get(name=tenant), host=Host.here(), network_id=number, name=name, state=Network.READY,
        created_ns=time.time_ns(), pool={"subnet": "10.200.0.0/24", "gateway": "10.200.0.1"}, **words,
    )  # fmt: skip
    networks.clear()


def put_member(name: str, *endpoints: EndpointState, ports: tuple[PortBinding, ...] = (), **spec: Any) -> str:
    """A container in user-defined networks, as the host's answers leave it."""
    words = {"network_mode": "user", "networks": tuple(each.spec for each in endpoints), "ports": ports, **spec}
    container_id = put_container(name, **words)
    row = Container.everywhere.get(engine_id=container_id)
    row.network_names = {N1: "n1", S1: "s1"}
    row.docker_host_config = {"NetworkMode": "n1"}
    row.docker_config["ExposedPorts"] = {"80/tcp": {}, "99/tcp": {}}
    row.state = {**row.state, "endpoints": codec.to_json(endpoints), "ports": codec.to_json(ports)}
    row.save()
    containers.clear()
    return container_id


def endpoint(number: str, address: str, **spec: Any) -> EndpointState:
    return EndpointState(
        spec=EndpointSpec(network_id=number, **spec), interface="eth0", ip_address=address, prefix_len=24, gateway="10.200.0.1",
        mac_address="02:42:0a:c8:00:02",
    )  # fmt: skip


@pytest.fixture
def two(api: Api) -> Api:
    put_network("n1", N1, labels={"a": "b"})
    put_network("s1", S1, internal=True, asked_pool={"subnet": "10.200.0.0/24"}, options={"foo": "bar"})
    put_network("theirs", "2c" * 32, tenant="other")
    return api


def test_list_and_inspect_have_dockers_members(two: Api) -> None:
    shown = two("GET", "/networks").json
    assert [network["Name"] for network in shown] == ["s1", "n1", "bridge", "none"]
    for network in shown:
        network["Options"], network["Labels"] = {}, {}
    told = golden.differences(golden.shape([*shown[:1], *shown[2:]]), golden.load("networks"))
    assert [line for line in told if not line.startswith("[].Options.com.docker.network")] == []
    one = two("GET", "/networks/s1").json
    assert one["IPAM"]["Config"] == [{"Subnet": "10.200.0.0/24", "Gateway": "10.200.0.1"}]
    assert (one["Internal"], one["Options"], one["Containers"]) == (True, {"foo": "bar"}, {})
    assert two("GET", f"/networks/{N1[:6]}1a?verbose=1").json["Name"] == "n1"


def test_both_families_are_shown(api: Api) -> None:
    pool = {"subnet": "fd00:7::/64", "gateway": "fd00:7::1"}
    put_network("n1", N1, asked_ipv6_pool=pool, ipv6_pool=pool, ipam={"ipv6_auxiliary": {"x": "fd00:7::5"}})
    spec = EndpointSpec(network_id=N1, ipv6_address="fd00:7::7")
    words = {"ipv6_address": "fd00:7::7", "ipv6_prefix_len": 64, "ipv6_gateway": "fd00:7::1"}
    number = put_member("web", EndpointState(spec=spec, interface="eth0", ip_address="10.200.0.2", prefix_len=24, **words))
    shown = api("GET", "/networks/n1").json
    assert shown["EnableIPv6"] is True
    assert shown["IPAM"]["Config"] == [
        {"Subnet": "10.200.0.0/24", "Gateway": "10.200.0.1"},
        {"Subnet": "fd00:7::/64", "Gateway": "fd00:7::1", "AuxiliaryAddresses": {"x": "fd00:7::5"}},
    ]
    assert shown["Containers"][number]["IPv6Address"] == "fd00:7::7/64"
    point = api("GET", "/containers/web/json").json["NetworkSettings"]["Networks"]["n1"]
    assert (point["GlobalIPv6Address"], point["GlobalIPv6PrefixLen"], point["IPv6Gateway"]) == ("fd00:7::7", 64, "fd00:7::1")
    assert point["IPAMConfig"] == {"IPv6Address": "fd00:7::7"}


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/networks/1", 400, "network 1 is ambiguous (2 matches found based on ID prefix)"),
        ("/networks/theirs", 404, "network theirs not found"),
        ("/networks/" + "2c" * 32, 404, "network " + "2c" * 32 + " not found"),
        ("/networks/n1?scope=swarm", 404, "network n1 not found"),
        ("/networks/nosuch", 404, "network nosuch not found"),
    ],
)
def test_what_is_not_there(two: Api, target: str, status: int, message: str) -> None:
    answer = two("GET", target)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"driver": ["null"]}, ["none"]),
        ({"name": ["n1", "none"]}, ["n1", "none"]),
        ({"name": ["^n"]}, ["n1", "none"]),
        ({"label": ["a=b"]}, ["n1"]),
        ({"scope": ["global"]}, []),
        ({"dangling": ["true"]}, ["s1"]),
        ({"dangling": ["false"]}, ["bridge", "n1", "none"]),
        ({"type": ["builtin"]}, ["bridge", "none"]),
        ({"type": ["custom"]}, ["n1", "s1"]),
        ({"id": [S1[:12]]}, ["s1"]),
    ],
)
def test_filters(two: Api, given: dict[str, list[str]], names: list[str]) -> None:
    put_member("web", endpoint(N1, "10.200.0.2"))
    shown = two("GET", f"/networks?filters={quote(json.dumps(given))}").json
    assert sorted(network["Name"] for network in shown) == names


@pytest.mark.parametrize("given", [{"type": ["x"]}, {"dangling": ["x"]}, {"bogus": ["x"]}])
def test_wrong_filters(two: Api, given: dict[str, list[str]]) -> None:
    assert two("GET", f"/networks?filters={quote(json.dumps(given))}").status == 400


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "message"),
    [
        ("DELETE", "/networks/bridge", None, 403, "bridge is a pre-defined network and cannot be removed"),
        ("DELETE", "/networks/host", None, 403, "host is a pre-defined network and cannot be removed"),
        ("DELETE", "/networks/theirs", None, 404, "network theirs not found"),
        ("POST", "/networks/create", {"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network "),
        ("POST", "/networks/create", {}, 400, "invalid name: name is empty"),
        (
            "POST", "/networks/create", {"Name": 7}, 400,
            "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Name of type string",
        ),
        (
            "POST", "/networks/create", {"Name": "x", "IPAM": []}, 400,
            "invalid JSON: json: cannot unmarshal array into Go struct field CreateRequest.IPAM of type network.IPAM",
        ),
        ("POST", "/networks/create", [], 400, "invalid JSON: json: cannot unmarshal array into Go value of type network.CreateRequest"),
        ("POST", "/networks/n1/connect", {}, 400, 'invalid name or ID supplied: ""'),
        ("POST", "/networks/n1/connect", {"Container": "nosuch"}, 404, "No such container: nosuch"),
        (
            "POST", "/networks/n1/connect", [], 400,
            "invalid JSON: json: cannot unmarshal array into Go value of type network.ConnectOptions",
        ),
        ("POST", "/networks/nosuch/connect", {"Container": "web"}, 404, "network nosuch not found"),
        ("POST", "/networks/n1/connect", {"Container": "web"}, 403, "endpoint with name web already exists in network n1"),
        ("POST", "/networks/s1/disconnect", {"Container": "web"}, 409, "container {web} is not connected to network s1"),
        ("POST", "/networks/n1/disconnect", {"Container": "nosuch"}, 404, "No such container: nosuch"),
        ("POST", "/networks/n1/disconnect", {"Container": "nosuch", "Force": True}, 404, "endpoint nosuch not found"),
        (
            "POST", "/containers/create", {"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}}, 400,
            "invalid JSON: json: cannot unmarshal number into Go struct field .HostConfig.PortBindings.80~1tcp.0.HostPort of type string",
        ),
    ],
)  # fmt: skip
def test_refusals(two: Api, method: str, target: str, body: Any, status: int, message: str) -> None:
    web = put_member("web", endpoint(N1, "10.200.0.2"))
    answer = two(method, target, body=body)
    assert (answer.status, answer.message) == (status, message.replace("{web}", web))


def test_a_network_with_a_running_member_stays(two: Api) -> None:
    web = put_member("web", endpoint(N1, "10.200.0.2"))
    inside = two("GET", "/networks/n1").json["Containers"][web]
    assert (inside["Name"], inside["IPv4Address"]) == ("web", "10.200.0.2/24")
    answer = two("DELETE", "/networks/n1")
    sentence = f'error while removing network: network n1 has active endpoints (name:"web" id:"{inside["EndpointID"][:12]}")'
    assert (answer.status, answer.message) == (403, sentence)


def test_inspect_and_list_of_a_member(two: Api) -> None:
    web = put_member(
        "web", endpoint(N1, "10.200.0.2", aliases=("front",)), endpoint(S1, "10.200.0.9", ip_address="10.200.0.9", gw_priority=2),
        ports=(PortBinding(container_port=80, host_port=8080), PortBinding(container_port=81, host_port=81, host_ip="127.0.0.1")),
    )  # fmt: skip
    shown = two("GET", "/containers/web/json").json
    settings = shown["NetworkSettings"]
    assert list(settings["Networks"]) == ["n1", "s1"] and shown["HostConfig"]["NetworkMode"] == "n1" and settings["IPAddress"] == ""
    n1, s1 = settings["Networks"].values()
    assert golden.shape(n1).keys() == golden.load("inspect-running")["NetworkSettings"]["Networks"]["bridge"].keys()
    assert (n1["NetworkID"], n1["IPAddress"], n1["Aliases"], n1["DNSNames"]) == (N1, "10.200.0.2", ["front"], ["web", "front", web[:12]])
    assert (s1["IPAMConfig"], s1["GwPriority"], s1["Aliases"]) == ({"IPv4Address": "10.200.0.9"}, 2, None)
    assert settings["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "81"}],
        "99/tcp": None,
    }
    (line,) = two("GET", "/containers/json").json
    assert line["NetworkSettings"]["Networks"] == settings["Networks"] and line["HostConfig"] == {"NetworkMode": "n1"}
    assert line["Ports"][0] == {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}
    assert line["Ports"][-1] == {"PrivatePort": 99, "Type": "tcp"}


def test_older_clients_find_the_short_id_among_the_aliases(two: Api) -> None:
    web = put_member("web", endpoint(N1, "10.200.0.2", aliases=("front",)))
    assert two("GET", "/v1.44/containers/web/json").json["NetworkSettings"]["Networks"]["n1"]["Aliases"] == ["front", web[:12]]
    assert two("GET", "/v1.45/containers/web/json").json["NetworkSettings"]["Networks"]["n1"]["Aliases"] == ["front"]


def test_what_does_not_run_shows_no_ports_and_no_addresses(two: Api) -> None:
    put_member("web", endpoint(N1, ""), ports=(PortBinding(container_port=80, host_port=8080),), status=Status.EXITED)
    settings = two("GET", "/containers/web/json").json["NetworkSettings"]
    assert settings["Ports"] == {} and settings["Networks"]["n1"]["EndpointID"] == "" and settings["Networks"]["n1"]["NetworkID"] == N1
    assert two("GET", "/containers/json?all=1").json[0]["Ports"] == []
    assert two("GET", "/networks/n1").json["Containers"] == {}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"publish": ["8080"]}, True), ({"publish": ["80"]}, False), ({"expose": ["80"]}, True), ({"expose": ["99/tcp"]}, True),
        ({"expose": ["8080"]}, False), ({"publish": ["8000-9000/tcp"]}, True), ({"publish": ["8080/udp"]}, False),
        ({"publish": ["1"], "expose": ["80"]}, True), ({"network": ["n1"]}, True), ({"network": [N1[:5]]}, True),
        ({"network": ["bridge"]}, False),
    ],
)  # fmt: skip
def test_ps_filters(two: Api, given: dict[str, list[str]], found: bool) -> None:
    put_member("web", endpoint(N1, "10.200.0.2"), ports=(PortBinding(container_port=80, host_port=8080),))
    assert bool(two("GET", f"/containers/json?filters={quote(json.dumps(given))}").json) is found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", 'error while looking up for publish x: strconv.ParseUint: parsing "x": invalid syntax'),
        ("1:2", "filter for 'publish' should not contain ':': 1:2"),
    ],
)
def test_ports_of_a_filter(two: Api, value: str, message: str) -> None:
    answer = two("GET", f"/containers/json?filters={quote(json.dumps({'publish': [value]}))}")
    assert (answer.status, answer.message) == (400, message)


def test_several_networks_in_a_create_are_of_newer_clients(two: Api) -> None:
    body = {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"n1": {}, "s1": {}}}}
    answer = two("POST", "/v1.43/containers/create", body=body)
    assert (answer.status, answer.message) == (400, "Container cannot be created with multiple network endpoints: n1, s1")
