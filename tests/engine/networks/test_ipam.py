from __future__ import annotations

import itertools

import pytest

from engine.networks import ipam


def test_the_gateway_is_first_and_containers_follow() -> None:
    assert ipam.gateway("10.128.16.0/20") == "10.128.16.1"
    assert ipam.address("10.128.16.0/20", 2) == "10.128.16.2"
    assert ipam.address("10.128.16.0/20", 300) == "10.128.17.44"


@pytest.mark.parametrize(("subnet", "count"), [("10.128.0.0/20", 4093), ("10.0.0.0/29", 5), ("10.0.0.0/30", 1)])
def test_every_address_but_network_gateway_and_broadcast_is_given(subnet: str, count: int) -> None:
    offsets = [offset for offset, _ in ipam.candidates(subnet, 1, never=[ipam.gateway(subnet)])]
    assert offsets == list(range(2, 2 + count))
    assert ipam.capacity(subnet) == count


def test_addresses_go_round() -> None:
    def after(last: int) -> list[int]:
        return [offset for offset, _ in ipam.candidates("10.0.0.0/29", last, never=["10.0.0.1"])]

    assert after(4) == [5, 6, 2, 3, 4]
    assert after(6) == [2, 3, 4, 5, 6]
    assert next(iter(after(10**7))) in range(2, 7), "a damaged hint does no harm"


def test_a_range_is_part_of_its_subnet() -> None:
    assert [address for _, address in ipam.candidates("10.0.0.0/24", 1, ip_range="10.0.0.252/30")] == [
        "10.0.0.252",
        "10.0.0.253",
        "10.0.0.254",
    ]
    assert list(ipam.candidates("10.0.0.0/24", 1, ip_range="10.0.0.0/32")) == []


def test_mac_addresses_are_dockers() -> None:
    assert ipam.mac_address("172.17.0.2") == "02:42:ac:11:00:02"
    assert len({ipam.mac_address(ipam.address("10.0.0.0/24", offset)) for offset in itertools.chain(range(256))}) == 256
