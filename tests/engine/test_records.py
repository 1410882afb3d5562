"""Names and folders of containers, also after somebody was killed in the midst."""

from __future__ import annotations

import secrets
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.config import EngineConfig
from engine.model.container import ContainerSpec
from engine.records import Records
from engine.restarts import Restart


@pytest.fixture
def records(tmp_path: Path) -> Records:
    config = EngineConfig(tmp_path / "data", tmp_path / "run")
    for folder in (config.containers, config.names, config.rootfs, config.trash):
        folder.mkdir(parents=True)
    return Records(config)


def spec(name: str = "web", tenant: str = "acme") -> ContainerSpec:
    return ContainerSpec(id=secrets.token_hex(32), tenant=tenant, name=name, image_id="sha256:" + "ab" * 32, image="x", args=("true",))


def test_a_name_belongs_to_one_container_of_a_tenant(records: Records) -> None:
    first = spec()
    records.add(first, {})
    assert records.by_name("acme", "web") == first.id
    with pytest.raises(errors.AlreadyExists, match=f'"/web" is already in use by container "{first.id}"'):
        records.add(spec(), {})
    records.add(spec(tenant="umbrella"), {})


def test_a_dropped_containers_name_is_free(records: Records) -> None:
    first, second = spec(), spec()
    records.add(first, {})
    records.drop(first)
    records.add(second, {})
    assert records.by_name("acme", "web") == second.id


def test_a_name_left_by_a_create_that_was_killed_is_free(records: Records, tmp_path: Path) -> None:
    killed, other = spec(), spec()
    records.add(killed, {})
    (records.folder(killed.id) / "spec.json").unlink()
    records.add(other, {})
    assert records.by_name("acme", "web") == other.id


def test_a_name_whose_file_a_power_loss_emptied_is_claimed_again(records: Records, tmp_path: Path) -> None:
    first, second = spec(), spec()
    records.add(first, {})
    claim = tmp_path / "data" / "engine" / "names" / "acme" / "web"
    claim.write_text("")
    records.claim_name(first)
    assert claim.read_text() == first.id
    claim.write_text("")
    records.add(second, {})
    records.claim_name(first)  # too late
    renamed = records.spec(first.id).name
    assert renamed == f"web-{first.id[:12]}"
    assert (records.by_name("acme", "web"), records.by_name("acme", renamed)) == (second.id, first.id)


def test_a_create_that_was_killed_can_be_done_again(records: Records) -> None:
    killed = spec()
    records.add(killed, {})
    (records.folder(killed.id) / "spec.json").unlink()
    records.add(killed, {})
    assert records.spec(killed.id) == killed


def test_a_name_left_by_a_removal_that_was_killed_is_free(records: Records) -> None:
    killed = spec()
    records.add(killed, {})
    shutil.rmtree(records.folder(killed.id))
    records.add(spec(), {})


def test_a_renamed_container_gives_its_old_name_back(records: Records) -> None:
    first, second = spec(), spec("db")
    records.add(first, {})
    records.add(second, {})
    with pytest.raises(errors.AlreadyExists):
        records.rename(first, "db")
    assert records.rename(first, "front").name == "front"
    assert records.spec(first.id).name == "front"
    records.add(spec(), {})


def test_of_many_who_want_a_name_at_once_one_gets_it(records: Records) -> None:
    got: list[str] = []

    def want() -> None:
        one = spec()
        try:
            records.add(one, {})
            got.append(one.id)
        except errors.AlreadyExists:
            pass

    threads = [threading.Thread(target=want) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [records.by_name("acme", "web")]


def test_what_has_no_record_long_after_it_was_begun_is_unfinished(records: Records, tmp_path: Path) -> None:
    whole, killed, writable = spec(), spec("db"), secrets.token_hex(32)
    records.add(whole, {})
    records.add(killed, {})
    (records.folder(killed.id) / "spec.json").unlink()
    (tmp_path / "data" / "engine" / "rootfs" / writable).mkdir()
    assert records.unfinished(older_than_s=60) == []
    assert set(records.unfinished(older_than_s=-1)) == {killed.id, writable}


def test_another_tenants_container_is_not_found(records: Records) -> None:
    one: Any = spec()
    records.add(one, {})
    with pytest.raises(errors.NotFound):
        records.spec(one.id, tenant="umbrella")
    with pytest.raises(errors.NotFound):
        records.folder("../../etc")


def test_a_record_that_a_power_loss_emptied_is_no_container(records: Records) -> None:
    emptied, whole = spec("web"), spec("db")
    for made in (emptied, whole):
        records.add(made, {})
    (records.folder(emptied.id) / "spec.json").write_bytes(b"\0" * 100)
    with pytest.raises(errors.NotFound):
        records.spec(emptied.id)
    assert records.unfinished(older_than_s=-60) == [emptied.id]
    records.free_names(older_than_s=-60)
    assert (records.by_name("acme", "web"), records.by_name("acme", "db")) == ("", whole.id)
    records.add(spec("web"), {})


def test_a_run_that_is_over_before_its_start_is_written_counts_as_the_restart_it_was(records: Records) -> None:
    """Else on-failure:2 would be tried a third time on a slow machine."""
    one = spec()
    records.add(one, {})
    records.write_start(one.id, {"run": 1, "pid": 1, "started_at_ns": 1})
    records.write_exit(one.id, 1, exit_code=3, signal=0)
    records.write_restart(one.id, Restart(run=1, count=1, delay_ms=200, due_ns=0))
    records.write_exit(one.id, 2, exit_code=3, signal=0)
    state = records.state(one.id)
    ending = records.ending(state)
    assert (state.run, state.restart_count, ending.count, ending.delay_ms) == (2, 1, 1, 200)
    records.write_exit(one.id, 3, exit_code=3, signal=0)  # begun by hand
    assert (records.state(one.id).restart_count, records.ending(records.state(one.id)).delay_ms) == (0, 0)
