"""The book of traffic, with datagrams of a known size between network namespaces."""

from __future__ import annotations

import calendar
import socket
import subprocess
import time
from types import SimpleNamespace

import pytest

from engine.model.network import Pool
from engine.model.traffic import Counts, Traffic, month_of
from engine.networks.flows import Flows
from engine.traffic import TrafficBook
from tests.engine.networks.machine import Box, Instance, inside

pytestmark = pytest.mark.requires("root", "nft")

HEADERS = 28  # IPv4 and UDP


def send(sender: Box, receiver: Box, *, packets: int, size: int = 100, address: str = "") -> None:
    """And wait until they are there."""
    family, address = socket.AF_INET6 if address else socket.AF_INET, address or receiver.endpoint.ip_address
    server = inside(receiver.pid, lambda: socket.socket(family, socket.SOCK_DGRAM))
    client = inside(sender.pid, lambda: socket.socket(family, socket.SOCK_DGRAM))
    with server, client:
        server.bind(("", 5000))
        server.settimeout(5)
        for _ in range(packets):
            client.sendto(bytes(size), (address, 5000))
            server.recv(size)


def counted(*, into: int = 0, out: int = 0, size: int = 100) -> Counts:
    whole = size + HEADERS
    return Counts(into_bytes=into * whole, into_packets=into, out_bytes=out * whole, out_packets=out)


def leave(instance: Instance, box: Box) -> None:
    instance.networks.release(box.id, [each.network_id for each in box.wanted])


def present(instance: Instance, *boxes: Box) -> None:
    for box in boxes:
        folder = instance.config.container(box.id)
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text("{}")


@pytest.mark.guest
def test_a_month_is_counted_once_whatever_ends_or_is_killed(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    book, month = TrafficBook(instance.config, instance.networks), month_of(time.time())
    assert book.count(tell_all=True) == []
    back = instance.network("alice", "back")
    one, two, short = instance.box("alice"), instance.box("alice"), instance.box("alice", back)
    bob, other = instance.box("bob"), instance.box("alice", back)
    present(instance, one, two)
    send(one, two, packets=3)
    (told,) = book.count()
    assert told.containers == {one.id: counted(out=3), two.id: counted(into=3)}
    assert told.tenants == {"alice": counted(into=3, out=3)} and told.month == month
    assert book.count() == []

    send(two, one, packets=2)
    send(short, other, packets=4)
    leave(instance, two)
    leave(instance, short)
    leave(instance, other)
    instance.networks.remove("alice", back)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Flows, "forget", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        book.count()
    assert TrafficBook(instance.config, instance.networks).count() == []
    assert list((instance.config.engine / "networks" / "departed").iterdir()) == []
    (told,) = book.count(tell_all=True)
    assert told.tenants == {"alice": counted(into=9, out=9)}
    assert told.containers == {one.id: counted(into=2, out=3), two.id: counted(into=3, out=2)}

    subprocess.run(["nft", "flush", "ruleset"], check=True)
    instance.networks.heal()
    send(bob, bob, packets=1)  # by its loopback
    send(one, instance.box("alice"), packets=1)
    (instance.config.container(two.id) / "spec.json").unlink()
    assert book.count() == [
        Traffic(book=told.book, month=month, tenants={"alice": counted(into=10, out=10)}, containers={one.id: counted(into=2, out=4)})
    ]
    assert two.id not in (instance.config.engine / "traffic.json").read_text()
    book.forget("alice")
    assert book.count(tell_all=True)[0].tenants == {}


def test_at_the_end_of_a_month_the_next_begins_with_nothing(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    def now(*date: int) -> None:
        moment = calendar.timegm((*date, 12, 0, 0, 0, 0, 0))
        monkeypatch.setattr("engine.traffic.time", SimpleNamespace(time=lambda: moment))

    one, other = instance.box("alice"), instance.box("alice")
    present(instance, one)
    for date, packets in (((2026, 11, 30), 3), ((2026, 12, 1), 2), ((2027, 1, 1), 1)):
        now(*date)
        book = TrafficBook(instance.config, instance.networks)  # another process each time
        send(one, other, packets=packets)
        month = "{}-{:02}".format(*date)
        assert [(told.month, told.containers) for told in book.count()] == [(month, {one.id: counted(out=packets)})]
        assert book.count() == []
    told = {each.month: each.tenants["alice"].out_packets for each in book.count(tell_all=True)}
    assert told == {"2026-12": 2, "2027-01": 1}, "the panel has those that are older"


def test_a_tenant_that_goes_takes_its_links_along(instance: Instance) -> None:
    book = TrafficBook(instance.config, instance.networks)
    book.count()
    one, two = instance.box("alice"), instance.box("alice")
    send(one, two, packets=1)
    for box in (one, two):
        leave(instance, box)
    instance.networks.remove_tenant(one.tenant)
    book.forget("alice")
    assert book.count(tell_all=True) == []
    instance.box("alice")
    assert book.count(tell_all=True) == []


def test_ipv6_is_counted_but_for_what_it_needs_on_the_link(instance: Instance) -> None:
    book, net = TrafficBook(instance.config, instance.networks), instance.network("alice", "net", ipv6_pool=Pool())
    one, two = instance.box("alice", net), instance.box("alice", net)
    present(instance, one, two)
    send(one, two, packets=3, address=two.endpoint.ipv6_address)
    (told,) = book.count()
    assert told.containers == {one.id: counted(out=3, size=120), two.id: counted(into=3, size=120)}, "a header of 40 bytes, not of 20"
