"""Names that are not ours: which servers 127.0.0.11 asks for a container, and what it believes."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.engine.networks import netd as netds
from tests.engine.networks.machine import inside
from tests.engine.networks.netd import (
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    answer,
    ask,
    eventually,
    name_server,
    query,
    served,
)  # fmt: skip

pytestmark = pytest.mark.requires("root", "nft")


def test_other_names_are_asked_of_the_hosts_servers(netd: netds.Process, box: int) -> None:
    """EDNS goes along, ids are new ones, and a changed resolv.conf counts."""
    with (
        name_server("127.0.0.53", lambda data, tcp: answer(data, "192.0.2.1")) as first,
        name_server("127.0.0.54", lambda data, tcp: answer(data, "192.0.2.2")),
    ):
        netd.resolv_conf.write_text("nameserver not-an-address\nnameserver 127.0.0.54\n")
        eventually(lambda: ask(box, "example.org").addresses == ["192.0.2.2"])
        netd.resolv_conf.write_text("# other\nnameserver 127.0.0.53\n")
        eventually(lambda: ask(box, "example.org").addresses == ["192.0.2.1"])
        first.heard.clear()
        for tcp in (False, True):
            reply = ask(box, "Example.org", edns=1400, tcp=tcp)
            assert (reply.id, reply.addresses) == (7, ["192.0.2.1"])
            data, peer, by_tcp = first.heard[-1]
            assert (data[2:], peer, by_tcp) == (query("Example.org", edns=1400)[2:], "127.0.0.1", tcp)
        for _ in range(8):
            ask(box, "example.org")
        assert len({data[:2] for data, _, _ in first.heard}) > 8


def test_its_own_servers_are_asked_from_inside(netd: netds.Process, boxes: ExitStack) -> None:
    pid = served(netd, boxes, 1, "web", servers=("127.0.0.77",))
    server = inside(pid, lambda: boxes.enter_context(name_server("127.0.0.77", lambda data, tcp: answer(data, "192.0.2.7"))))
    with name_server("127.0.0.77", lambda data, tcp: answer(data, "192.0.2.66")) as host_side:
        for tcp in (False, True):
            assert ask(pid, "example.org", tcp=tcp).addresses == ["192.0.2.7"]
    assert [by_tcp for *_, by_tcp in server.heard] == [False, True]
    assert not host_side.heard


def test_an_internal_network_asks_nobody(netd: netds.Process, boxes: ExitStack) -> None:
    with name_server("127.0.0.53", lambda data, tcp: answer(data, "192.0.2.1")) as server:
        netd.resolv_conf.write_text("nameserver 127.0.0.53\n")
        pid = served(netd, boxes, 1, "web", forward=False)
        assert ask(pid, "example.org").rcode == SERVFAIL
        assert ask(pid, "web").addresses
        assert not server.heard


def test_a_server_that_cannot_help_is_followed_by_the_next(netd: netds.Process, box: int) -> None:
    def strange(data: bytes, tcp: bool) -> bytes | None:
        return None

    with (
        name_server("127.0.0.51", lambda data, tcp: answer(data, rcode=REFUSED)),
        name_server("127.0.0.52", strange),
        name_server("127.0.0.53", lambda data, tcp: answer(data, "192.0.2.1")),
    ):
        # one nobody listens at, one that refuses, one that is silent, one that answers
        netd.resolv_conf.write_text("".join(f"nameserver 127.0.0.{number}\n" for number in (50, 51, 52, 53)))
        eventually(lambda: ask(box, "example.org").addresses == ["192.0.2.1"])
        assert ask(box, "example.org", tcp=True).addresses == ["192.0.2.1"]
        netd.resolv_conf.write_text("# other\nnameserver 127.0.0.50\nnameserver 127.0.0.51\n")
        eventually(lambda: ask(box, "example.org").rcode == REFUSED)
    eventually(lambda: ask(box, "example.org").rcode == SERVFAIL)


def test_a_name_that_does_not_exist_is_an_answer(netd: netds.Process, box: int) -> None:
    with (
        name_server("127.0.0.52", lambda data, tcp: answer(data, rcode=NXDOMAIN)),
        name_server("127.0.0.53", lambda data, tcp: answer(data, "192.0.2.1")) as second,
    ):
        netd.resolv_conf.write_text("nameserver 127.0.0.52\nnameserver 127.0.0.53\n")
        eventually(lambda: ask(box, "example.invalid").rcode == NXDOMAIN)
        assert not second.heard


def test_truncation_is_passed_on_and_tcp_brings_the_rest(netd: netds.Process, box: int) -> None:
    many = [f"192.0.2.{number}" for number in range(200)]

    def reply(data: bytes, tcp: bool) -> bytes:
        return answer(data, *many) if tcp else answer(data, flags=0x0200)

    with name_server("127.0.0.53", reply):
        netd.resolv_conf.write_text("nameserver 127.0.0.53\n")
        eventually(lambda: ask(box, "example.org").truncated)
        assert ask(box, "example.org", tcp=True).addresses == many


def test_a_server_that_says_more_than_it_may_is_cut(netd: netds.Process, box: int) -> None:
    with name_server("127.0.0.53", lambda data, tcp: answer(data, *(f"192.0.2.{number}" for number in range(200)))):
        netd.resolv_conf.write_text("nameserver 127.0.0.53\n")
        eventually(lambda: ask(box, "example.org").truncated)
        assert len(ask(box, "example.org").raw) <= 512


def test_answers_to_other_questions_are_ignored(netd: netds.Process, box: int) -> None:
    """Another id, another name, no answer at all: none of it reaches the container."""

    def forge(data: bytes, tcp: bool) -> list[bytes]:
        other = answer(query("evil.org", number=int.from_bytes(data[:2], "big")), "192.0.2.66")
        wrong = bytes((data[0] ^ 1,)) + answer(data, "192.0.2.66")[1:]
        return [wrong, other, data, b"", b"\0" * 5, answer(data, "192.0.2.1")]

    with name_server("127.0.0.53", forge):
        netd.resolv_conf.write_text("nameserver 127.0.0.53\n")
        eventually(lambda: ask(box, "example.org").addresses == ["192.0.2.1"])
        assert all(ask(box, "example.org").addresses == ["192.0.2.1"] for _ in range(5))
