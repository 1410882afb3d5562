from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from engine.errors import FailedPrecondition
from engine.model.tenant import TenantHost
from engine.networks.store import Leases


def tenant(subnet: str = "10.128.0.0/20", name: str = "alice") -> TenantHost:
    return TenantHost(name=name, number=1, uid_start=1 << 20, subnet=subnet)


def identity(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "networks", "ab12v")


def test_a_claim_is_kept_until_it_is_freed(leases: Leases, tmp_path: Path) -> None:
    lease = leases.claim(tenant(), identity(1))
    assert lease.address == "10.128.0.2"
    assert lease.link.startswith("ab12v") and len(lease.link) == 13
    assert leases.claim(tenant(), identity(1)) == lease
    assert Leases(tmp_path / "networks", "ab12v").of(identity(1)) == lease
    leases.free(identity(1))
    leases.free(identity(1))
    assert leases.of(identity(1)) is None


def test_an_address_is_not_given_again_at_once(leases: Leases, tmp_path: Path) -> None:
    first = leases.claim(tenant(), identity(1))
    leases.free(identity(1))
    assert Leases(tmp_path / "networks", "ab12v").claim(tenant(), identity(2)).address != first.address


def test_a_full_subnet_is_said_and_a_freed_address_found(leases: Leases) -> None:
    small = tenant("10.0.0.0/29")
    given = {leases.claim(small, identity(number)).address for number in range(5)}
    assert given == {f"10.0.0.{last}" for last in range(2, 7)}
    with pytest.raises(FailedPrecondition, match=r"no free address in 10\.0\.0\.0/29"):
        leases.claim(small, identity(9))
    leases.free(identity(3))
    assert leases.claim(small, identity(9)).address in given


def test_what_a_kill_left_half_done_is_freed(leases: Leases, tmp_path: Path) -> None:
    lease = leases.claim(tenant("10.0.0.0/29"), identity(1))
    for entry in (tmp_path / "networks" / "endpoints").iterdir():
        entry.unlink()
    assert leases.dead({identity(1)}, older_than_s=-1) == []
    assert not os.path.lexists(tmp_path / "networks" / "leases" / "alice" / lease.address)


def test_the_dead_are_found_and_the_young_spared(leases: Leases) -> None:
    for number in range(3):
        leases.claim(tenant(), identity(number))
    assert leases.dead([identity(1)], older_than_s=60) == []
    assert sorted(leases.dead([identity(1)], older_than_s=-1)) == [identity(0), identity(2)]


def test_a_tenant_is_forgotten_alone(leases: Leases) -> None:
    leases.claim(tenant(), identity(1))
    kept = leases.claim(tenant("10.1.0.0/20", "bob"), identity(2))
    leases.forget("alice")
    assert list(leases.all()) == [(identity(2), kept)]
    leases.clear()
    assert list(leases.all()) == []


def _claim(folder: Path, turn: int, answers: multiprocessing.Queue[list[str]]) -> None:
    leases = Leases(folder, "ab12v")
    answers.put([leases.claim(tenant(), identity(turn * 100 + number)).address for number in range(50)])


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
