from __future__ import annotations

import ipaddress
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from engine.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from engine.model.network import EndpointSpec, Pool
from engine.networks.bridged import Bridged
from engine.networks.store import Lease, Leases

ANY = EndpointSpec()


def network(subnet: str = "10.128.0.0/20", name: str = "alice", **words: Any) -> Bridged:
    """The default bridge of a tenant, or with an ``id`` one of its own."""
    pool = Pool(
        subnet=subnet,
        gateway=str(ipaddress.ip_network(subnet)[1]),
        ip_range=words.pop("ip_range", ""),
        reserved=words.pop("reserved", ()),
    )
    given: dict[str, Any] = {
        "id": "",
        "key": name,
        "tenant": name,
        "name": "bridge",
        "link": "ab12b1",
        "pool": pool,
    }
    return Bridged(**{**given, **words})


def own(number: int, subnet: str, **words: Any) -> Bridged:
    return network(subnet, id=identity(number), key=identity(number), **words)


def identity(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "networks", "ab12v")


def test_a_claim_is_kept_until_it_is_freed(leases: Leases, tmp_path: Path) -> None:
    lease = leases.claim(network(), identity(1), ANY)
    assert lease.address == "10.128.0.2"
    assert lease.link.startswith("ab12v") and len(lease.link) == 13
    assert leases.claim(network(), identity(1), ANY) == lease
    assert Leases(tmp_path / "networks", "ab12v").of(identity(1)) == lease
    leases.free(identity(1))
    leases.free(identity(1))
    assert leases.of(identity(1)) is None


def test_an_address_is_not_given_again_at_once(leases: Leases, tmp_path: Path) -> None:
    first = leases.claim(network(), identity(1), ANY)
    leases.free(identity(1))
    assert Leases(tmp_path / "networks", "ab12v").claim(network(), identity(2), ANY).address != first.address


def test_a_full_subnet_is_said_and_a_freed_address_found(leases: Leases) -> None:
    small = network("10.0.0.0/29")
    given = {leases.claim(small, identity(number), ANY).address for number in range(5)}
    assert given == {f"10.0.0.{last}" for last in range(2, 7)}
    with pytest.raises(FailedPrecondition, match="no available IPv4 addresses"):
        leases.claim(small, identity(9), ANY)
    leases.free(identity(3))
    assert leases.claim(small, identity(9), ANY).address in given


def test_what_a_kill_left_half_done_is_freed(leases: Leases, tmp_path: Path) -> None:
    lease = leases.claim(network("10.0.0.0/29"), identity(1), ANY)
    for entry in (tmp_path / "networks" / "endpoints").iterdir():
        entry.unlink()
    assert leases.dead({identity(1)}, older_than_s=-1) == []
    assert not os.path.lexists(tmp_path / "networks" / "leases" / "alice" / lease.address)


def test_the_dead_are_found_and_the_young_spared(leases: Leases) -> None:
    for number in range(3):
        leases.claim(network(), identity(number), ANY)
    assert leases.dead([identity(1)], older_than_s=60) == []
    assert sorted(leases.dead([identity(1)], older_than_s=-1)) == [(identity(0), ""), (identity(2), "")]


def test_a_tenant_is_forgotten_alone(leases: Leases) -> None:
    leases.claim(network(), identity(1), ANY)
    kept = leases.claim(network("10.1.0.0/20", "bob"), identity(2), ANY)
    leases.forget("alice")
    assert list(leases.all()) == [(identity(2), "", kept)]
    leases.clear()
    assert list(leases.all()) == []


def _claim(folder: Path, turn: int, answers: multiprocessing.Queue[list[str]]) -> None:
    leases = Leases(folder, "ab12v")
    answers.put([leases.claim(network(), identity(turn * 100 + number), ANY).address for number in range(50)])


def test_processes_never_get_the_same_address(tmp_path: Path) -> None:
    forks = multiprocessing.get_context("fork")
    answers = forks.Queue()
    children = [forks.Process(target=_claim, args=(tmp_path / "networks", turn, answers)) for turn in range(4)]
    for child in children:
        child.start()
    addresses = [address for _ in children for address in answers.get(timeout=30)]
    for child in children:
        child.join()
    assert len(set(addresses)) == 200


def test_a_container_has_an_address_in_each_of_its_networks(leases: Leases) -> None:
    one, other = own(7, "172.28.0.0/24"), own(8, "172.29.0.0/24")
    here, there, usual = (leases.claim(each, identity(1), ANY) for each in (one, other, network()))
    assert (here.address, there.address, usual.address) == ("172.28.0.2", "172.29.0.2", "10.128.0.2")
    assert leases.of(identity(1), one.id) == here and leases.of(identity(1)) == usual
    assert {network_id: lease for _, network_id, lease in leases.all()} == {one.id: here, other.id: there, "": usual}
    leases.free(identity(1), one.id)
    assert leases.of(identity(1), one.id) is None and leases.of(identity(1), other.id) == there
    assert not leases.is_used(one.key) and leases.is_used(other.key)


def test_what_a_network_gives(leases: Leases) -> None:
    chosen = own(7, "172.28.0.0/24", ip_range="172.28.0.128/30", reserved=("172.28.0.129",))
    given = [leases.claim(chosen, identity(number), ANY).address for number in range(3)]
    assert sorted(given) == ["172.28.0.128", "172.28.0.130", "172.28.0.131"]
    with pytest.raises(FailedPrecondition, match="no available IPv4 addresses"):
        leases.claim(chosen, identity(9), ANY)
    assert leases.claim(chosen, identity(9), EndpointSpec(ip_address="172.28.0.9")).address == "172.28.0.9", (
        "outside of the range, asked for"
    )


def test_an_address_and_a_mac_of_ones_own(leases: Leases) -> None:
    chosen = own(7, "172.28.0.0/24", reserved=("172.28.0.9",))
    wanted = EndpointSpec(ip_address="172.28.0.77", mac_address="02:00:00:00:00:01")
    lease = leases.claim(chosen, identity(1), wanted)
    assert lease == Lease(identity(7), "172.28.0.77", lease.link, "02:00:00:00:00:01") == leases.of(identity(1), chosen.id)
    for taken in ("172.28.0.77", "172.28.0.1", "172.28.0.9"):
        with pytest.raises(PermissionDenied, match="Address already in use"):
            leases.claim(chosen, identity(2), EndpointSpec(ip_address=taken))
    for foreign in ("172.28.1.5", "172.28.0.0", "172.28.0.255"):
        with pytest.raises(InvalidArgument, match="no configured subnet contains IP address"):
            leases.claim(chosen, identity(2), EndpointSpec(ip_address=foreign))
    assert leases.of(identity(2), chosen.id) is None
