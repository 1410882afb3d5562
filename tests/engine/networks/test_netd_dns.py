"""The wire format, and what a container finds in the directory: whatever bytes come, nothing but a question or Malformed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.networks.names import Member, Names
from engine.networks.netd import dns
from engine.networks.netd.directory import Directory, View
from tests.engine.networks.netd import AAAA, PTR, A, answer, identity, named, parse, query

LABEL = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_", min_size=1, max_size=63)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(".".join)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good question with some bytes changed, cut off or put behind."""
    data = bytearray(query(draw(NAME), draw(st.sampled_from([1, 12, 28, 255])), edns=draw(st.sampled_from([0, 512, 4096]))))
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=20))


@given(st.binary(max_size=600) | broken())
def test_any_bytes_are_a_question_or_malformed(data: bytes) -> None:
    try:
        question = dns.read(data)
    except dns.Malformed as error:
        assert error.answer == b"" or (len(error.answer) == 12 and error.answer[:2] == data[:2] and error.answer[2] & 0x80)
        return
    view = view_of(Member(identity(1), "web", (), "172.20.0.1"))
    view.find(question.name, turn=True)
    dns.reverse(question.name)
    if question.type not in (A, AAAA):
        question = question._replace(type=A)
    for reply in (dns.addresses(question, [b"\1\2\3\4"] * 50, 512), dns.pointer(question, b"a.b"), dns.failure(question, dns.SERVFAIL)):
        assert dns.answers(reply, question.text, question.id)
        assert parse(reply).id == question.id
        assert len(reply) <= 512 + len(question.text)


@given(st.binary(max_size=100), st.binary(max_size=60), st.integers(0, 65535))
def test_any_bytes_are_an_answer_or_not(reply: bytes, asked: bytes, number: int) -> None:
    dns.answers(reply, asked, number)


@given(NAME, st.sampled_from([0, 512, 1232, 65535]), st.lists(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)))
@pytest.mark.parametrize(("kind", "length"), [(A, 4), (AAAA, 16)])
def test_addresses_are_told_whole_or_cut(kind: int, length: int, name: str, edns: int, found: list[bytes]) -> None:
    question = dns.read(query(name, kind, edns=edns))
    assert question.name == name.lower().encode()
    found = found * 4
    reply = dns.addresses(question, found, question.udp_size)
    told = parse(reply)
    found = [address for address in found if len(address) == length]
    assert [data for _, data in told.answers] == found[: len(told.answers)]
    assert told.truncated == (len(told.answers) < len(found))
    assert len(reply) <= max(512, edns)
    assert reply[12 : question.end] == question.raw[12 : question.end], "letters as they were asked"
    assert struct.unpack_from("!H", reply, 10)[0] == bool(edns)


def test_an_answer_is_to_its_own_question() -> None:
    asked = dns.read(query("web.example", number=7))
    good = answer(query("WEB.example", number=7), "192.0.2.1")
    assert dns.answers(good, asked.text, 7)
    for bad in (
        answer(query("web.example", number=8), "192.0.2.1"),
        answer(query("web.example", 28, number=7), "192.0.2.1"),
        answer(query("web.other", number=7), "192.0.2.1"),
        query("web.example", number=7),
        good[:20],
    ):
        assert not dns.answers(bad, asked.text, 7)


@given(st.binary(max_size=80))
def test_names_in_reverse(name: bytes) -> None:
    address = dns.reverse(name + b".in-addr.arpa")
    assert address is None or len(address) == 4
    address = dns.reverse(name + b".ip6.arpa")
    assert address is None or len(address) == 16


def test_only_whole_addresses_are_reversed() -> None:
    assert dns.reverse(b"4.3.2.1.in-addr.arpa") == b"\1\2\3\4"
    assert dns.reverse(b"2.0." + b"0." * 28 + b"d.f.ip6.arpa") == b"\xfd" + bytes(14) + b"\2"
    for name in (b"2." * 31 + b"ip6.arpa", b"2." * 33 + b"ip6.arpa", b"2." * 31 + b"g.ip6.arpa", b"2." * 31 + b"..ip6.arpa"):
        assert dns.reverse(name) is None
    for name in (b"3.2.1.in-addr.arpa", b"5.4.3.2.1.in-addr.arpa", b"256.3.2.1.in-addr.arpa", b"x.3.2.1.in-addr.arpa", b"4.3.2.1.ip6.arpa"):
        assert dns.reverse(name) is None


def test_a_name_that_no_packet_can_carry_is_left_out() -> None:
    question = dns.read(query("1.0.20.172.in-addr.arpa", PTR))
    for name in (b"a..b", b"a" * 64, b".".join([b"a" * 60] * 5)):
        assert parse(dns.pointer(question, name)).answers == []
    ((kind, data),) = parse(dns.pointer(question, b"web.front")).answers
    assert (kind, named(data)) == (PTR, "web.front")


# -- the directory --------------------------------------------------------------------------------


def view_of(*members: Member, names: Names | None = None) -> View:
    directory = Directory()
    for member in members:
        directory.enter("n", "Front", member)
    return View.of(directory, names or Names(("n",)))


def found(view: View, name: str) -> list[str] | None:
    addresses = view.find(name.encode(), turn=False)
    return None if addresses is None else [".".join(map(str, address)) for address in addresses]


def test_the_first_network_that_knows_a_name_answers() -> None:
    directory = Directory()
    directory.enter("one", "front", Member(identity(1), "db", (), "172.20.0.1"))
    directory.enter("two", "back", Member(identity(2), "db", (), "172.21.0.2"))
    assert found(View.of(directory, Names(("two", "one"))), "db") == ["172.21.0.2"]
    assert found(View.of(directory, Names(("two", "one"))), "db.front") == ["172.20.0.1"]
    assert found(View.of(directory, Names(("gone", "one"))), "db") == ["172.20.0.1"]
    assert found(View.of(directory, Names()), "db") is None


def test_a_name_with_dots_and_a_network_with_dots() -> None:
    directory = Directory()
    directory.enter("one", "my.net", Member(identity(1), "web.1", ("db.front",), "172.20.0.1"))
    view = View.of(directory, Names(("one",)))
    for name in ("web.1", "web.1.my.net", "db.front", "db.front.my.net"):
        assert found(view, name) == ["172.20.0.1"]
    assert found(view, "web") is None


def test_a_member_without_an_address_is_not_found_until_it_has_one() -> None:
    directory = Directory()
    view = View.of(directory, Names(("n",)))
    for address, expected in (("", None), ("no address", None), ("172.20.0.1", ["172.20.0.1"])):
        directory.enter("n", "front", Member(identity(1), "web", ("www",), address))
        assert found(view, "web") == found(view, "www") == expected
    directory.leave("n", identity(1))
    directory.leave("n", identity(1))
    assert found(view, "web") is None
    assert directory.networks == {}


def test_an_address_that_went_to_another_is_the_others() -> None:
    directory = Directory()
    view = View.of(directory, Names(("n",)))
    directory.enter("n", "front", Member(identity(1), "old", (), "172.20.0.1"))
    directory.enter("n", "front", Member(identity(2), "new", (), "172.20.0.1"))
    directory.leave("n", identity(1))
    assert view.called(bytes((172, 20, 0, 1))) == b"new.front"
