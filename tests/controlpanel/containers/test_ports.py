"""Ports in Docker's words, as dockerd 28.5.2 takes and shows them."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.containers import ports
from engine.errors import InvalidArgument
from engine.model.network import PortBinding


def read(bindings: Any, **host: Any) -> tuple[PortBinding, ...]:
    return ports.read(host.pop("config", {}), {"PortBindings": bindings, **host})


def bind(container_port: int, host_port: int = 0, end: int = 0, *, protocol: str = "tcp", ip: str = "") -> PortBinding:
    return PortBinding(container_port=container_port, protocol=protocol, host_ip=ip, host_port=host_port, host_port_end=end)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"80/tcp": [{"HostPort": "8080"}]}, (bind(80, 8080),)),
        ({"80": [{"HostPort": ""}]}, (bind(80),)),
        ({"80/TCP": [{"HostPort": "0"}]}, (bind(80),)),
        ({"53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}]}, (bind(53, 5353, protocol="udp", ip="127.0.0.1"),)),
        ({"7/sctp": [{"HostIp": "::1", "HostPort": "7"}]}, (bind(7, 7, protocol="sctp", ip="::1"),)),
        ({"80/tcp": [{"HostPort": "8000-8010"}]}, (bind(80, 8000, 8010),)),
        ({"80/tcp": [{"HostPort": "8000-8000"}]}, (bind(80, 8000),)),
        ({"80/tcp": [{"HostPort": "80/udp"}]}, (bind(80, 80),)),
        ({"80/tcp": [{"HostPort": "1"}, {"HostPort": "2"}]}, (bind(80, 1), bind(80, 2))),
        ({"80/tcp": None}, ()),
        ({}, ()),
        (None, ()),
    ],
)
def test_bindings(asked: Any, got: tuple[PortBinding, ...]) -> None:
    assert read(asked) == got


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"nonsense": []}, 'invalid port specification: "nonsense"'),
        ({"80/tcp": [{"HostPort": "x"}]}, 'invalid port specification: "x"'),
        ({"80/tcp": [{"HostPort": "70000"}]}, 'invalid port specification: "70000"'),
        ({"80/tcp": [{"HostPort": " 1"}]}, 'invalid port specification: " 1"'),
        ({"80/tcp": [{"HostPort": "9-5"}]}, 'invalid port specification: "9-5"'),
        ({"70000/tcp": [{}]}, 'invalid port specification: "70000"'),
        ({"80-82/tcp": [{}]}, 'invalid port specification: "80-82"'),
        ({"0/tcp": [{}]}, 'invalid port specification: "0"'),
        ({"/tcp": [{}]}, 'invalid port specification: ""'),
        ({"80/foo": [{}]}, "invalid proto: foo"),
        ({"80/tcp": [{"HostIp": "nope"}]}, "invalid IP address: nope"),
        ({"80/tcp": {}}, "80/tcp must be an array"),
    ],
)
def test_nonsense(asked: Any, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(asked)
    assert sentence in caught.value.message


def test_all_exposed_ports_are_published_but_those_that_are_already() -> None:
    config = {"ExposedPorts": {"1001/udp": {}, "1000/tcp": {}, "70/tcp": {}, "nonsense": {}}}
    found = read({"70/tcp": [{"HostPort": "18070"}]}, PublishAllPorts=True, config=config)
    assert found == (bind(70, 18070), bind(1000), bind(1001, protocol="udp"))


CONFIG = {"ExposedPorts": {"80/tcp": {}, "81/udp": {}, "99/tcp": {}}}
RUNNING = (bind(80, 18080), bind(81, 18081, protocol="udp", ip="127.0.0.1"))


def test_inspect_shows_an_entry_for_each_family() -> None:
    assert ports.port_map(CONFIG, RUNNING) == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}],
        "81/udp": [{"HostIp": "127.0.0.1", "HostPort": "18081"}],
        "99/tcp": None,
    }


def test_the_list_shows_them_as_docker_ps_wants_them() -> None:
    assert ports.summary(CONFIG, RUNNING) == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 18080, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 81, "PublicPort": 18081, "Type": "udp"},
        {"PrivatePort": 99, "Type": "tcp"},
    ]


@pytest.mark.parametrize(
    "line", ["80", "8080:80", "127.0.0.1:8080:80", "[::1]:8080:80/udp", "8000-8010:80", "127.0.0.1::80", "53:53/udp", "0.0.0.0:1:1/sctp"]
)
def test_a_line_is_what_docker_run_takes_and_comes_back(line: str) -> None:
    (binding,) = ports.read({}, {"PortBindings": ports.parse(line)})
    assert ports.spelled(binding) == line


def test_a_range_of_lines_goes_port_by_port() -> None:
    found = ports.parse("8000-8002:90-92")
    assert {port: asked[0]["HostPort"] for port, asked in found.items()} == {"90/tcp": "8000", "91/tcp": "8001", "92/tcp": "8002"}
    assert list(ports.parse("90-91")) == ["90/tcp", "91/tcp"]


@pytest.mark.parametrize("line", ["", "x", "0:80", "80:0", "1:2:3:4", "[::1]80", "65536", "8-5:80", "80-82:90-99", "80:"])
def test_lines_that_mean_nothing(line: str) -> None:
    with pytest.raises(InvalidArgument):
        ports.read({}, {"PortBindings": ports.parse(line)})


def test_what_was_asked_is_docker_again() -> None:
    asked = {
        "80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}, {"HostIp": "::1", "HostPort": ""}],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    }
    assert ports.to_docker(read(asked)) == asked
