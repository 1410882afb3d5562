"""In which networks a create request puts a container; sentences are dockerd 28.5.2's own."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import networking, request
from controlpanel.containers.references import BUILTIN, References
from controlpanel.hosts.machine import Machine
from controlpanel.networks.projection import NetworkView
from engine.errors import InvalidArgument, Unsupported
from engine.model.network import EndpointSpec, Pool

MACHINE = Machine(cpus=4, cpuset_cpus="0-3", blkio_weight=True)
N1 = NetworkView(id="1a" * 32, name="n1", driver="bridge", created_ns=1)
S1 = NetworkView(id="2b" * 32, name="s1", driver="bridge", created_ns=1, asked_pool=Pool(subnet="10.55.0.0/24"))
DB = "dd" * 32
KNOWN = References({**BUILTIN, "n1": N1, N1.id: N1, N1.id[:12]: N1, "s1": S1}, {"db": DB, "/db": DB})


def read(mode: str, endpoints: dict[str, Any] | None = None, *, config: dict[str, Any] | None = None, **host: Any) -> networking.Networking:
    networks = {"EndpointsConfig": endpoints} if endpoints is not None else {}
    return networking.read(config or {}, {"NetworkMode": mode, **host}, networks, KNOWN)


@pytest.mark.parametrize("mode", ["", "default", "bridge"])
def test_the_default_bridge_needs_no_words(mode: str) -> None:
    assert read(mode) == read(mode, {mode or "default": {}}) == networking.Networking("bridge")


@pytest.mark.parametrize("mode", ["n1", N1.id, N1.id[:12]])
def test_a_network_is_named_by_name_or_id(mode: str) -> None:
    found = read(mode)
    assert (found.mode, found.endpoints, found.names) == ("user", (EndpointSpec(network_id=N1.id),), {N1.id: "n1"})


def test_endpoints_take_everything_that_is_said_of_them() -> None:
    settings = {
        "IPAMConfig": {"IPv4Address": "10.55.0.7"},
        "Aliases": ["web", "web", "x"],
        "MacAddress": "02-11-22-33-44-AA",
        "Links": ["db:store", "db"],
        "GwPriority": 3,
    }
    found = read("n1", {"s1": settings, "n1": {}})
    assert found.endpoints == (
        EndpointSpec(network_id=N1.id),
        EndpointSpec(
            network_id=S1.id,
            aliases=("web", "x"),
            links=(f"{DB}:store", f"{DB}:db"),
            ip_address="10.55.0.7",
            mac_address="02:11:22:33:44:aa",
            gw_priority=3,
        ),
    )
    assert found.names == {N1.id: "n1", S1.id: "s1"}


def test_when_endpoints_are_named_only_they_count() -> None:
    assert read("bridge", {"s1": {}}).mode == "user"
    assert [each.network_id for each in read("s1", {"n1": {}}).endpoints] == [N1.id]
    both = read("n1", {"bridge": {}, "n1": {}})
    assert (both.mode, both.endpoints) == ("bridge", (EndpointSpec(network_id=N1.id),))


def test_links_of_the_default_bridge_are_the_host_configs() -> None:
    assert read("", Links=["db", "/db:store"]).endpoints == (EndpointSpec(links=(f"{DB}:db", f"{DB}:store")),)
    assert read("n1", Links=["nosuch:x"]).endpoints == (EndpointSpec(network_id=N1.id),)


def test_a_mac_address_for_the_whole_container_is_the_main_networks() -> None:
    found = read("s1", config={"MacAddress": "02:11:22:33:44:66"})
    assert found.endpoints[0].mac_address == "02:11:22:33:44:66" and found.warnings == (networking.MAC_DEPRECATED,)
    assert read("", config={"MacAddress": "02:11:22:33:44:66"}).endpoints == (EndpointSpec(mac_address="02:11:22:33:44:66"),)


def test_none_is_alone() -> None:
    assert read("none").mode == read("none", {"none": {}}).mode == read("n1", config={"NetworkDisabled": True}).mode == "none"
    assert read(f"container:{DB}", {"s1": {}}) == networking.Networking(f"container:{DB}")


def test_the_hosts_is_alone() -> None:
    def asked(endpoints: dict[str, Any], config: dict[str, Any] | None = None, **host: Any) -> networking.Networking:
        return networking.read(config or {}, {"NetworkMode": "host", **host}, {"EndpointsConfig": endpoints}, KNOWN)

    assert asked({}) == asked({"host": {}}) == networking.Networking("host")
    assert asked({}, PortBindings={"80/tcp": []}).warnings == ("Published ports are discarded when using host network mode",)
    for refused in (
        lambda: asked({"host": {}, "s1": {}}),
        lambda: asked({}, Links=["db"]),
        lambda: asked({}, {"MacAddress": "02:11:22:33:44:66"}),
    ):
        with pytest.raises(InvalidArgument, match=r"host network|conflicting options"):
            refused()


_ADDRESS = {"IPAMConfig": {"IPv4Address": "10.1.1.1"}}
REFUSED = [
    (("nosuch",), InvalidArgument, "network nosuch not found"),
    (("n1", {"nosuch": {}}), InvalidArgument, "network nosuch not found"),
    (
        ("n1", {"n1": _ADDRESS}),
        InvalidArgument,
        "invalid config for network n1: invalid endpoint settings:\n"
        "user specified IP address is supported only when connecting to networks with user configured subnets",
    ),
    (
        ("s1", {"s1": _ADDRESS}),
        InvalidArgument,
        "invalid config for network s1: invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.1.1.1",
    ),
    (
        ("s1", {"s1": {"IPAMConfig": {"IPv4Address": "x"}}}),
        InvalidArgument,
        "invalid config for network s1: invalid endpoint settings:\n* invalid IPv4 address: x\n"
        "* no configured subnet or ip-range contain the IP address x",
    ),
    (
        ("bridge", {"bridge": {**_ADDRESS, "Aliases": ["x"]}}),
        InvalidArgument,
        "invalid config for network bridge: invalid endpoint settings:\n"
        "* user specified IP address is supported on user defined networks only\n"
        "* network-scoped alias is supported only for containers in user defined networks\n"
        "* no configured subnet or ip-range contain the IP address 10.1.1.1",
    ),
    (("s1", {"s1": {"MacAddress": "x"}}), InvalidArgument, "invalid config for network s1: invalid MAC address x"),
    (("none", {"none": {}, "s1": {}}), InvalidArgument, "container cannot be connected to multiple networks"),
    (
        ("s1", {"s1": {"IPAMConfig": {"IPv4Address": "10.55.0.9", "IPv6Address": "10.55.0.9"}}}),
        InvalidArgument,
        "invalid config for network s1: invalid endpoint settings:\n* invalid IPv6 address: 10.55.0.9\n"
        "* user specified IP address is supported only when connecting to networks with user configured subnets",
    ),
    (
        ("bridge", {"bridge": {"IPAMConfig": {"IPv6Address": "fd00::2"}}}),
        InvalidArgument,
        "invalid config for network bridge: invalid endpoint settings:\n"
        "* user specified IP address is supported on user defined networks only\n"
        "* user specified IP address is supported only when connecting to networks with user configured subnets",
    ),
    (("n1", {"n1": {"DriverOpts": {"a": "b"}}}), Unsupported, "driver options"),
    (("n1", {"n1": {"Links": ["gone:x"]}}), InvalidArgument, "could not get container for gone: No such container: gone"),
]


@pytest.mark.parametrize(("words", "kind", "sentence"), REFUSED, ids=[str(case[0])[:60] for case in REFUSED])
def test_refusals_are_mobys(words: tuple[Any, ...], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        read(*words)
    assert str(caught.value).startswith(sentence) or sentence in str(caught.value)


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        ("", "empty string specified for links"),
        ("a:b:c", "bad format for links: a:b:c"),
        ("nosuch:x", "could not get container for nosuch"),
    ],
)
def test_bad_links(link: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        read("bridge", Links=[link])


def test_two_mac_addresses_of_the_main_network_contradict_each_other() -> None:
    with pytest.raises(InvalidArgument, match="the container-wide MAC address must match"):
        read("s1", {"s1": {"MacAddress": "02:11:22:33:44:77"}}, config={"MacAddress": "02:11:22:33:44:66"})


def test_the_spec_of_a_create_request_has_them() -> None:
    body = {
        "Image": "busybox",
        "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
        "HostConfig": {"NetworkMode": "n1", "PublishAllPorts": True, "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
    }
    asked = request.read(
        body, container_id="0" * 64, tenant="acme", name="web", image_id="i", image_config={"config": {"Cmd": ["sh"]}}, machine=MACHINE,
        references=KNOWN,
    )  # fmt: skip
    assert asked.spec.network_mode == "user" and asked.network_names == {N1.id: "n1"}
    assert [(port.container_port, port.protocol, port.host_port) for port in asked.spec.ports] == [(80, "tcp", 8080), (81, "udp", 0)]
