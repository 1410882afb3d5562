"""Docker's request for a network; sentences are dockerd 28.5.2's own."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.networks import creation
from engine.errors import InvalidArgument, NotFound, PermissionDenied, Unsupported
from engine.model.network import Pool


def test_what_docker_network_create_sends_is_taken() -> None:
    body = {
        "CheckDuplicate": True, "Name": "net", "Driver": "bridge", "Scope": "", "EnableIPv6": False, "Internal": True, "Attachable": True,
        "Ingress": False, "ConfigOnly": False, "ConfigFrom": {"Network": ""}, "Labels": {"a": "b"},
        "IPAM": {"Driver": "default", "Options": {}, "Config": [
            {"Subnet": "10.55.0.0/24", "IPRange": "10.55.0.128/25", "Gateway": "10.55.0.1", "AuxiliaryAddresses": {"x": "10.55.0.5"}}
        ]},
        "Options": {creation.MTU: "1400", creation.ICC: "false", "foo": "bar"},
    }  # fmt: skip
    asked = creation.read(body)
    assert asked.pool == Pool(subnet="10.55.0.0/24", gateway="10.55.0.1", ip_range="10.55.0.128/25", reserved=("10.55.0.5",))
    assert (asked.name, asked.internal, asked.attachable, asked.icc, asked.mtu) == ("net", True, True, False, 1400)
    assert (asked.labels, asked.options["foo"], asked.ipam) == ({"a": "b"}, "bar", {"auxiliary": {"x": "10.55.0.5"}, "options": {}})
    assert creation.read({"Name": "n"}) == creation.Asked(name="n", ipam={"options": None})


def test_a_network_has_a_pool_of_each_family() -> None:
    six = {"Subnet": "fd00:7::/64", "Gateway": "fd00:7::fe", "AuxiliaryAddresses": {"x": "fd00:7::5"}}
    body = {"Name": "net", "EnableIPv6": True, "IPAM": {"Config": [six, {"Subnet": "10.55.0.0/24"}]}}
    asked = creation.read(body)
    assert asked.pool == Pool(subnet="10.55.0.0/24")
    assert asked.ipv6_pool == Pool(subnet="fd00:7::/64", gateway="fd00:7::fe", reserved=("fd00:7::5",))
    assert asked.ipam["ipv6_auxiliary"] == {"x": "fd00:7::5"}
    assert creation.read({"Name": "net", "EnableIPv6": True}).ipv6_pool == Pool(), "the host chooses"
    without = creation.read({**body, "EnableIPv6": False})
    assert (without.ipv6_pool, without.ipam["ignored"]) == (None, [six]), "moby shows it, and does nothing with it"


def test_a_network_may_do_without_ipv4() -> None:
    four, six = {"Subnet": "10.55.0.0/24"}, {"Subnet": "fd00:7::/64"}
    body = {"Name": "net", "EnableIPv4": False, "EnableIPv6": True}
    assert (creation.read(body).pool, creation.read(body).ipv6_pool) == (None, Pool())
    asked = creation.read({**body, "IPAM": {"Config": [four, six]}})
    assert (asked.pool, asked.ipv6_pool, asked.ipam["ignored"]) == (None, Pool(subnet="fd00:7::/64"), [four])


def pool(**config: Any) -> dict[str, Any]:
    return {"IPAM": {"Config": [config]}}


REFUSED = [
    ({"Name": ""}, InvalidArgument, "invalid name: name is empty"),
    ({"Name": "bridge"}, PermissionDenied, "operation is not permitted on predefined bridge network "),
    ({"Driver": "overlay"}, PermissionDenied, creation._NO_SWARM),
    ({"Driver": "host"}, PermissionDenied, 'only one instance of "host" network is allowed'),
    ({"Driver": "null"}, PermissionDenied, 'only one instance of "null" network is allowed'),
    ({"Driver": "nosuch"}, NotFound, 'plugin "nosuch" not found'),
    ({"Scope": "swarm"}, PermissionDenied, "cannot create a swarm scoped network when swarm is not active"),
    ({"Ingress": True}, PermissionDenied, "Ingress network can only be global scope network"),
    ({"ConfigFrom": {"Network": "abc"}}, NotFound, 'configuration network "abc" does not exist'),
    ({"IPAM": {"Driver": "nosuch"}}, NotFound, 'plugin "nosuch" not found'),
    (pool(Subnet="10.1.2.3/24"), InvalidArgument, "invalid network config:\ninvalid subnet 10.1.2.3/24: it should be 10.1.2.0/24"),
    (pool(Subnet="nope"), InvalidArgument, "invalid network config:\ninvalid subnet nope: invalid CIDR block notation"),
    (pool(Gateway="10.1.2.3"), InvalidArgument, "invalid network config:\ninvalid subnet : invalid CIDR block notation"),
    (
        pool(Subnet="10.77.0.0/24", IPRange="10.78.0.0/24", Gateway="10.79.0.1", AuxiliaryAddresses={"a": "10.80.0.1", "b": "x"}),
        InvalidArgument,
        "invalid network config:\n* invalid ip-range 10.78.0.0/24: parent subnet 10.77.0.0/24 doesn't contain ip-range\n"
        "* invalid gateway 10.79.0.1: parent subnet 10.77.0.0/24 doesn't contain this address\n"
        "* invalid auxiliary address a: parent subnet 10.77.0.0/24 doesn't contain this address\n"
        "* invalid auxiliary address b: invalid address",
    ),
    (
        pool(Subnet="10.77.0.0/24", IPRange="10.77.0.0/16"),
        InvalidArgument,
        "invalid network config:\ninvalid ip-range 10.77.0.0/16: CIDR block is bigger than its parent subnet 10.77.0.0/24",
    ),
    (
        pool(Subnet="10.77.0.0/24", IPRange="10.77.0.5/25"),
        InvalidArgument,
        "invalid network config:\ninvalid ip-range 10.77.0.5/25: it should be 10.77.0.0/25",
    ),
    (
        pool(Subnet="10.77.0.0/24", IPRange="fd00::/64"),
        InvalidArgument,
        "invalid network config:\ninvalid ip-range fd00::/64: parent subnet is an IPv4 block",
    ),
    (
        {"IPAM": {"Config": [{"Subnet": "10.77.0.0/24"}, {"Subnet": "10.78.0.0/24"}]}},
        PermissionDenied,
        "bridge driver doesn't support multiple subnets",
    ),
    (
        {"EnableIPv6": True, "IPAM": {"Config": [{"Subnet": "fd00:1::/64"}, {"Subnet": "fd00:2::/64"}]}},
        PermissionDenied,
        "bridge driver doesn't support multiple subnets",
    ),
    (
        {"EnableIPv6": True, **pool(Subnet="fd00:7::5/64", Gateway="10.1.1.1")},
        InvalidArgument,
        "invalid network config:\n* invalid subnet fd00:7::5/64: it should be fd00:7::/64\n"
        "* invalid gateway 10.1.1.1: parent subnet is an IPv6 block",
    ),
    (
        {"Options": {creation.MTU: "x"}},
        InvalidArgument,
        'failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x": invalid syntax)',
    ),
    ({"Options": {creation.MTU: "-1"}}, InvalidArgument, "invalid MTU number: -1"),
    (
        {"Options": {creation.ICC: "x"}},
        InvalidArgument,
        'failed to parse com.docker.network.bridge.enable_icc value: x (strconv.ParseBool: parsing "x": invalid syntax)',
    ),
    # what is not ours to do, in our words
    ({"Driver": "macvlan"}, PermissionDenied, "macvlan networks reach the host's own links and are not for tenants (Driver macvlan)"),
    ({"EnableIPv4": False}, InvalidArgument, "IPv4 or IPv6 must be enabled"),
    (
        {"Options": {"com.docker.network.bridge.name": "br0"}},
        PermissionDenied,
        "the name of the bridge is the host's to choose (com.docker.network.bridge.name)",
    ),
    (
        {"Options": {"com.docker.network.bridge.enable_ip_masquerade": "false"}},
        Unsupported,
        "the option com.docker.network.bridge.enable_ip_masquerade=false is not supported",
    ),
]


@pytest.mark.parametrize(("body", "kind", "sentence"), REFUSED, ids=[str(case[0])[:60] for case in REFUSED])
def test_refusals(body: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind) as caught:
        creation.read({"Name": "net", **body})
    assert str(caught.value) == sentence
