from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from engine.errors import InvalidArgument
from engine.model.container import ContainerSpec
from engine.networks import resolve


def spec(**changes: object) -> ContainerSpec:
    plain = ContainerSpec(id="0123456789ab" + "c" * 52, tenant="alice", name="web", image_id="sha256:0", image="x", args=("sh",))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


HOST = """# made by hand
domain old.example
search corp.example  example
nameserver 127.0.0.1
nameserver 10.0.0.53
nameserver ::1
nameserver fe80::1%eth0
nameserver 10.0.0.54
options ndots:2
options timeout:1
sortlist 10.0.0.0
"""


def test_the_hosts_servers_are_taken_but_for_its_loopback_and_ipv6() -> None:
    assert resolve.resolv_conf(spec(), HOST) == (
        "nameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch corp.example example\noptions ndots:2 timeout:1\nsortlist 10.0.0.0\n"
    )


@pytest.mark.parametrize("text", ["", "nameserver 127.0.0.1\n", "nameserver nonsense\n"])
def test_without_a_server_it_is_dockers_fallback(text: str) -> None:
    assert resolve.resolv_conf(spec(), text) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_what_the_user_names_replaces_list_by_list() -> None:
    asked = spec(dns=("1.1.1.1", "127.0.0.1"), dns_search=("a.example",))
    assert resolve.resolv_conf(asked, HOST).splitlines() == [
        "nameserver 1.1.1.1", "nameserver 127.0.0.1", "search a.example", "options ndots:2 timeout:1", "sortlist 10.0.0.0",
    ]  # fmt: skip
    assert "options debug\n" in resolve.resolv_conf(spec(dns_options=("debug",)), HOST)


def test_a_dot_means_no_search_list() -> None:
    assert "search" not in resolve.resolv_conf(spec(dns_search=(".",)), HOST)


def test_behind_systemd_resolved_its_own_servers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    monkeypatch.setattr(resolve, "RESOLV_CONF", stub)
    monkeypatch.setattr(resolve, "SYSTEMD_RESOLV_CONF", real)
    assert resolve.host_resolv_conf() == stub.read_text(), "no file behind it"
    real.write_text("nameserver 192.0.2.53\n")
    assert resolve.host_resolv_conf() == "nameserver 192.0.2.53\n"
    stub.write_text("nameserver 127.0.0.53\nnameserver 192.0.2.1\n")
    assert resolve.host_resolv_conf() == stub.read_text(), "a stub among others is not the stub"


def test_hosts_names_the_container_and_its_friends() -> None:
    asked = spec(hostname="web", domainname="example.org", extra_hosts=("db:10.0.0.5", "six:[::5]", "old=10.0.0.6", "host:host-gateway"))
    lines = resolve.hosts_file(asked, addresses=["10.128.0.2"], gateway="10.128.0.1").splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert "::1\tlocalhost ip6-localhost ip6-loopback" in lines
    assert lines[-5:] == ["10.0.0.5\tdb", "::5\tsix", "10.0.0.6\told", "10.128.0.1\thost", "10.128.0.2\tweb.example.org web"]


def test_hosts_without_names_and_without_network() -> None:
    assert resolve.hosts_file(spec(), addresses=["10.128.0.2"], gateway="10.128.0.1").endswith("\n10.128.0.2\t0123456789ab\n")
    assert resolve.hosts_file(spec(), gateway="").endswith("ip6-allrouters\n")


@pytest.mark.parametrize("extra", ["nonsense", "name:", "name:not-an-address", ":1.2.3.4", "name:host-gateway"])
def test_a_bad_extra_host_is_said(extra: str) -> None:
    with pytest.raises(InvalidArgument, match="extra host"):
        resolve.hosts_file(spec(extra_hosts=(extra,)), gateway="")
