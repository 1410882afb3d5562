"""What a tenant is given, and that two owners are never given the same."""

from __future__ import annotations

import ipaddress
import itertools
import json
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import claims as claims_module
from engine import instances
from engine.claims import BLOCK, IDS_END, IDS_FIRST, Claims
from engine.config import EngineConfig
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from engine.model.resources import Resources
from engine.model.tenant import IDS_PER_TENANT, TenantHost
from engine.tenants import Tenants
from tests.engine.networks.machine import own_host

pytestmark = pytest.mark.requires("root")

Make = Callable[..., Tenants]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other instances of this machine have noted what they have: not here, where the network namespace is one of our own."""
    monkeypatch.setattr(instances, "FOLDER", tmp_path / "instances")


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "subuid").write_text("somebody:100000:65536\n")
    return folder


@pytest.fixture
def make(tmp_path: Path, etc: Path) -> Iterator[Make]:
    """Tenants of the engine in a folder, on a machine with a claims file and an /etc of its own, and no network but loopback."""
    with own_host():
        yield lambda name="one": Tenants(EngineConfig(tmp_path / name, tmp_path / "run"), Claims(tmp_path / "claims.json", etc=etc))


def ids(tenant: TenantHost) -> range:
    return range(tenant.uid_start, tenant.uid_start + IDS_PER_TENANT)


@pytest.mark.guest
def test_a_tenant_keeps_what_it_was_given(make: Make) -> None:
    given = make().ensure("alice", limits=Resources(memory_bytes=1 << 30))
    assert given.number == 1 and given.uid_start == IDS_FIRST and given.subnet == "10.128.0.0/20"
    assert make().ensure("alice") == make().get("alice") == given
    assert make().list() == [given]


def test_limits_and_policy_change_and_nothing_else(make: Make) -> None:
    tenants = make()
    first = tenants.ensure("alice", limits=Resources(pids_limit=10), force_no_new_privileges=True)
    second = tenants.ensure("alice", limits=Resources(pids_limit=20))
    assert second.limits.pids_limit == 20 and second.force_no_new_privileges
    assert (second.number, second.uid_start, second.subnet) == (first.number, first.uid_start, first.subnet)


def test_another_process_sees_a_change_at_once(make: Make) -> None:
    here, there = make(), make()
    here.ensure("alice")
    assert there.get("alice").limits == Resources()
    here.ensure("alice", limits=Resources(pids_limit=7))
    assert there.get("alice").limits.pids_limit == 7
    here.remove("alice")
    with pytest.raises(NotFound, match="No such tenant: alice"):
        there.get("alice")


def test_tenants_of_two_instances_share_nothing(make: Make) -> None:
    found = [tenants.ensure(f"t{number}") for tenants in (make("one"), make("two")) for number in range(70)]
    assert make("one").instance() != make("two").instance()
    starts = sorted(tenant.uid_start for tenant in found)
    assert all(after - before >= IDS_PER_TENANT for before, after in itertools.pairwise(starts))
    subnets = sorted(ipaddress.IPv4Network(tenant.subnet) for tenant in found)
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(subnets))


def test_the_257th_tenant_opens_another_block(make: Make) -> None:
    tenants = make()
    last = [tenants.ensure(f"t{number}") for number in range(257)][-1]
    assert last.uid_start == IDS_FIRST + BLOCK
    assert last.subnet == "10.144.0.0/20", "64 subnets in each /14"


def test_a_removed_tenants_number_is_given_again_only_after_remove(make: Make) -> None:
    tenants = make()
    alice, bob = tenants.ensure("alice"), tenants.ensure("bob")
    tenants.remove("alice")
    tenants.remove("alice")
    assert tenants.ensure("carol").uid_start == alice.uid_start
    assert tenants.get("bob") == bob


@pytest.mark.parametrize("name", ["", "Alice", "a_b", "-a", "a/b", "..", "public", "x" * 64])
def test_bad_names_are_refused_before_they_become_paths(make: Make, name: str) -> None:
    for act in (make().ensure, make().get, make().remove):
        with pytest.raises(InvalidArgument):
            act(name)


@pytest.mark.guest
def test_subuid_and_subgid_tell_others_what_is_taken(make: Make, etc: Path) -> None:
    tenants = make()
    tenants.ensure("alice")
    line = f"slipway-{tenants.instance()}:{IDS_FIRST}:{BLOCK}\n"
    assert (etc / "subuid").read_text() == f"somebody:100000:65536\n{line}"
    assert (etc / "subgid").read_text() == line
    assert (etc / "subuid").stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(etc)) == ["subgid", "subuid"], "no lock is left"
    tenants.release()
    assert (etc / "subuid").read_text() == "somebody:100000:65536\n"
    assert (etc / "subgid").read_text() == ""


def test_ids_that_others_were_given_are_not_taken(make: Make, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "subgid").write_text(f"broken line\npodman:{IDS_FIRST + BLOCK - 1}:2\n")
    user = type("User", (), {"pw_uid": IDS_FIRST + 2 * BLOCK + 5})
    monkeypatch.setattr(claims_module.pwd, "getpwall", lambda: [user])
    assert make().ensure("alice").uid_start == IDS_FIRST + 3 * BLOCK
    assert "broken line" in (etc / "subgid").read_text()


def test_ids_that_are_all_taken_are_said(make: Make, etc: Path) -> None:
    (etc / "subuid").write_text(f"greedy:{IDS_FIRST}:{IDS_END - IDS_FIRST}\n")
    with pytest.raises(FailedPrecondition, match="free ids"):
        make().ensure("alice")


def test_a_lock_of_useradd_is_respected_and_a_stale_one_is_not(make: Make, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "_SHADOW_LOCK_TIMEOUT_S", 0.2)
    (etc / "subuid.lock").write_text(f"{os.getpid()}\0")
    with pytest.raises(Unavailable, match="held by another program"):
        make().ensure("alice")
    ended = subprocess.Popen(["true"])
    ended.wait()
    (etc / "subuid.lock").write_text(f"{ended.pid}\0")
    assert make().ensure("alice").number == 1


def _route(networks: list[str]) -> None:
    for network in networks:
        subprocess.run(["ip", "route", "add", network, "dev", "lo"], check=True)


@pytest.mark.parametrize(
    ("routes", "subnet"),
    [
        (["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"], "10.128.0.0/20"),
        (["10.128.5.0/24"], "10.132.0.0/20"),
        (["10.0.0.0/8"], "172.16.0.0/20"),
        (["10.0.0.0/8", "172.17.0.0/16", "172.20.0.1/32", "172.24.0.0/13"], "172.16.0.0/20"),
        (["10.0.0.0/8", "172.16.0.0/12"], "192.168.0.0/20"),
        (["10.0.0.0/8", "172.16.0.0/12", "192.168.1.0/24"], "192.168.64.0/20"),
    ],
)
def test_subnets_keep_clear_of_the_hosts_routes(make: Make, routes: list[str], subnet: str) -> None:
    _route(routes)
    given = ipaddress.IPv4Network(make().ensure("alice").subnet)
    assert not any(given.overlaps(ipaddress.IPv4Network(route, strict=False)) for route in routes if int(route.split("/")[1]) >= 8)
    assert str(given) == subnet


def test_a_host_without_a_free_network_is_said(make: Make) -> None:
    _route(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])
    with pytest.raises(FailedPrecondition, match="no private network is free"):
        make().ensure("alice")


def test_a_wiped_folder_gets_its_claim_back_and_a_copy_is_refused(make: Make, tmp_path: Path) -> None:
    instance = make().instance()
    subprocess.run(["rm", "-rf", tmp_path / "one"], check=True)
    assert make().instance() == instance
    subprocess.run(["cp", "-a", tmp_path / "one", tmp_path / "copy"], check=True)
    with pytest.raises(FailedPrecondition, match="is a copy of"):
        make("copy").instance()
    subprocess.run(["rm", "-rf", tmp_path / "one"], check=True)
    assert make("copy").instance() == instance, "it was moved"
    assert [claim["data"] for claim in json.loads((tmp_path / "claims.json").read_text())["instances"].values()] == [str(tmp_path / "copy")]


def test_a_restored_folder_of_an_unknown_instance_is_taken_in(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "one" / "engine"
    folder.mkdir(parents=True)
    (folder / "instance").write_text("beef\n")
    tenants = make()
    assert tenants.instance() == "beef"
    assert tenants.ensure("alice").number == 1


def _ensure(make: Tenants, names: list[str], results: multiprocessing.Queue[list[tuple[str, int, int, str]]]) -> None:
    found = [make.ensure(name) for name in names]
    results.put([(tenant.name, tenant.number, tenant.uid_start, tenant.subnet) for tenant in found])


def test_processes_that_begin_at_once_agree(make: Make) -> None:
    forks = multiprocessing.get_context("fork")
    results = forks.Queue()
    names = [f"t{number}" for number in range(6)]
    children = [forks.Process(target=_ensure, args=(make(), names[turn:] + names[:turn], results)) for turn in range(6)]
    for child in children:
        child.start()
    answers = [sorted(results.get(timeout=30)) for _ in children]
    for child in children:
        child.join()
    assert all(answer == answers[0] for answer in answers)
    assert len({number for _, number, _, _ in answers[0]}) == 6


def test_a_setting_of_the_host_is_given_back_by_the_last_who_held_it(make: Make, tmp_path: Path, etc: Path) -> None:
    name, setting = "net/ipv4/ip_forward", Path("/proc/sys/net/ipv4/ip_forward")
    setting.write_text("0")
    claims = Claims(tmp_path / "claims.json", etc=etc)
    claims.hold_sysctl("aaaa", name, "1")
    claims.hold_sysctl("bbbb", name, "1")
    claims.drop_sysctls("aaaa")
    claims.drop_sysctls("aaaa")
    assert setting.read_text() == "1\n"
    claims.drop_sysctls("bbbb")
    assert setting.read_text() == "0\n"


def test_a_wiped_temporary_folder_loses_its_claims_to_the_next_comer(make: Make, tmp_path: Path, etc: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        gone = Tenants(EngineConfig(Path(folder), tmp_path / "run"), Claims(tmp_path / "claims.json", etc=etc))
        gone.ensure("alice")
    here = make()
    assert here.ensure("alice").uid_start == IDS_FIRST
    assert list(json.loads((tmp_path / "claims.json").read_text())["instances"]) == [here.instance()]


def test_a_folder_from_another_machine_claims_what_it_had_or_says_who_has_it(make: Make, tmp_path: Path, etc: Path) -> None:
    tenant = make("one").ensure("alice")
    (tmp_path / "claims.json").unlink()
    (etc / "subuid").unlink()
    assert make("one").get("alice") == tenant
    make("one").instance()
    assert make("two").ensure("alice").uid_start == tenant.uid_start + BLOCK
    (tmp_path / "claims.json").unlink()
    make("three").ensure("alice")
    with pytest.raises(FailedPrecondition, match="belong to the instance"):
        make("one").instance()
