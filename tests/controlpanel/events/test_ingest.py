"""Facts of the host: twice is once, old is no news, and what a complete list does not name is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction

from controlpanel.base import database
from controlpanel.containers import projection, services
from controlpanel.containers.models import Container
from controlpanel.events import autoremove, ingest, inventory, log
from controlpanel.events.tasks import ingest_events
from controlpanel.images import projection as images
from controlpanel.tenants.models import Tenant
from engine.model import codec
from engine.model.event import Event
from tests.controlpanel.conftest import until
from tests.workers.conftest import WorkerProcess
from workers.outbox import Outbox
from workers.resp import Address, Redis

BODY = {"Image": "busybox", "Cmd": ["true"]}

pytestmark = pytest.mark.usefixtures("web", "image")


def exited(container_id: str, seq: int = 2, tenant: str = "acme", **state: Any) -> dict[str, Any]:
    words = {"id": container_id, "status": "exited", "run": seq // 2, "seq": seq, "started_at_ns": 1, "finished_at_ns": 2, **state}
    return {"kind": "container.exited", "tenant": tenant, "object_id": container_id, "seq": seq, "time_ns": 3, "state": words}


async def test_the_same_fact_by_both_ways_is_told_once(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    assert await database.run(ingest.apply, exited(made.id, exit_code=1))
    assert not await database.run(ingest.apply, exited(made.id, exit_code=1))
    await database.read(ingest_events, events=[exited(made.id, exit_code=1)])
    told = [event.action for event in await database.read(log.read, people.acme.pk)]
    assert told == ["create", "connect", "start", "disconnect", "die"]


async def test_an_older_fact_does_not_overwrite_a_newer(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    await database.run(ingest.apply, exited(made.id, seq=4, exit_code=9))
    assert not await database.run(ingest.apply, exited(made.id, seq=2, exit_code=1))
    assert (await projection.container(alice, "web")).state.exit_code == 9


async def test_a_host_cannot_speak_of_another_tenants_container(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    assert not await database.run(ingest.apply, exited(made.id, tenant="umbrella"))
    assert (await projection.container(alice, "web")).host_seq == 0


async def test_nonsense_and_strangers_are_no_news(people: Any) -> None:
    assert not await database.run(ingest.apply, {"kind": "container.exploded", "tenant": "acme", "object_id": "x", "seq": 1, "time_ns": 1})
    assert not await database.run(ingest.apply, exited("f" * 64))
    assert not await database.run(ingest.apply, {})


async def test_docker_events_carry_labels_and_the_exit_code(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, {**BODY, "Labels": {"team": "a"}}, name="web")
    await database.run(ingest.apply, exited(made.id, exit_code=3, started_at_ns=10**9, finished_at_ns=4 * 10**9))
    die = (await database.read(log.read, people.acme.pk))[-1].to_docker()
    assert die["Actor"] == {
        "ID": made.id,
        "Attributes": {"team": "a", "image": "busybox", "name": "web", "exitCode": "3", "execDuration": "3"},
    }
    assert (die["status"], die["id"], die["from"], die["time"], die["timeNano"]) == ("die", made.id, "busybox", 4, 4 * 10**9)


async def test_what_a_complete_inventory_does_not_name_is_gone(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    kept = await services.create_container(alice, BODY, name="kept")
    await services.create_container(alice, BODY, name="lost")
    waiting = await services.wait(alice, "lost", "removed")
    before = await database.read(inventory.known, "local")
    late = await services.create_container(alice, BODY, name="late")
    found = inventory.Inventory()
    paused = {"id": kept.id, "status": "paused", "seq": 1, "run": 1, "change": 1}
    found.note({"kind": "container.changed", "tenant": "acme", "object_id": kept.id, "seq": 1, "time_ns": 1, "state": paused})
    assert await database.run(inventory.settle, before, found) == {}
    assert {view.name for view in await projection.containers(alice)} == {"kept", late.view.name}
    assert waiting.done()
    assert await images.images(alice) == []  # the public image was not named either


async def test_events_beyond_the_limit_are_trimmed_per_tenant(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "KEEP", 3)

    def fill(tenant: Tenant, count: int) -> None:
        for number in range(count):
            log.write(tenant.pk, "container", f"a{number}", "x", {})

    await database.run(fill, people.acme, 5)
    await database.run(fill, people.umbrella, 2)
    assert await database.run(log.trim) == 2
    assert [event.action for event in await database.read(log.read, people.acme.pk)] == ["a2", "a3", "a4"]
    assert len(await database.read(log.read, people.umbrella.pk)) == 2


async def test_a_transaction_that_fails_tells_nothing(people: Any) -> None:
    from controlpanel.base import live

    def write_and_fail() -> None:
        log.write(people.acme.pk, "container", "never", "x", {})
        with transaction.atomic():
            raise ValueError("undone")

    with live.subscribe(people.acme.pk) as subscription:
        with pytest.raises(ValueError, match="undone"):
            await database.run(write_and_fail)
        await database.run(log.write, people.acme.pk, "container", "once", "x", {})
        assert (await subscription.next())[0]["event"]["Action"] == "once"


async def test_rm_containers_that_ended_while_nobody_looked_go_at_the_next_start(people: Any, host: Any, container: Any) -> None:
    container.auto_remove, container.status, container.host_seq = True, "exited", 2
    container.state = {"id": container.engine_id, "status": "exited", "run": 1, "seq": 2, "exit_code": 3}
    await database.run(container.save)
    waiting = await services.wait(await database.read(people.actor, people.alice), "web", "removed")
    autoremove.look_again()
    assert (await asyncio.wait_for(waiting, 3)).exit_code == 3
    assert host.verbs() == ["container.remove"]


async def test_the_worker_writes_only_what_web_has_not(people: Any, host: Any) -> None:
    made = await services.create_container(await database.read(people.actor, people.alice), BODY, name="web")
    event, stranger = exited(made.id), exited("f" * 64)
    assert await database.read(ingest.news, [event, stranger]) == [event]
    await database.run(ingest.apply, event)
    assert await database.read(ingest.news, [event, stranger]) == []
    assert projection.has_seen(made.id, 2) and not projection.has_seen(made.id, 3)


async def test_a_fact_that_cannot_be_applied_keeps_no_other_back(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    nonsense = exited(made.id) | {"state": {"status": "exploded"}}
    await database.read(ingest_events, events=[nonsense, exited(made.id) | {"seq": None}, exited(made.id, exit_code=4)])
    assert await database.read(seq_of, made.id) == 2


async def test_facts_wait_in_order_for_a_database_that_is_away(people: Any, host: Any, caplog: pytest.LogCaptureFixture) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    facts = [exited(made.id, exit_code=1), exited(made.id) | {"state": {}}, exited(made.id, seq=4, exit_code=2)]
    async with away():
        taking = asyncio.ensure_future(database.read(ingest_events, events=facts))
        await until(lambda: "3 facts wait for the database" in caplog.text)
        assert not taking.done()
    await asyncio.wait_for(taking, 5)
    assert await database.read(seq_of, made.id) == 4
    told = [event.attributes.get("exitCode") for event in await database.read(log.read, people.acme.pk) if event.action == "die"]
    assert told == ["1", "2"]


async def test_a_worker_that_ends_while_the_database_is_away_leaves_its_facts_to_the_next(people: Any, host: Any, tmp_path: Path) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    outbox = Outbox(Redis(Address.parse(settings.REDIS_URL)))
    outbox.put(*[codec.from_json(Event, exited(made.id, seq=seq, exit_code=seq)) for seq in (2, 4)])
    assert outbox.flush()
    worker = panel_worker(tmp_path)
    try:
        async with away():
            worker.start()
            await until(lambda: "2 facts wait for the database" in worker.log.read_text(), within_s=30)
            ended = await asyncio.to_thread(worker.signal, signal.SIGTERM)
            assert ended == 0, worker.log.read_text()
        worker.start()
        for _ in range(300):
            if await database.read(seq_of, made.id) == 4:
                break
            await asyncio.sleep(0.1)
    finally:
        worker.stop()
    told = [event.attributes.get("exitCode") for event in await database.read(log.read, people.acme.pk) if event.action == "die"]
    assert told == ["2", "4"], worker.log.read_text()


def seq_of(container_id: str) -> int:
    return int(Container.everywhere.get(engine_id=container_id).host_seq)


@asynccontextmanager
async def away() -> AsyncIterator[None]:
    """Each look at the table of containers fails as in a database that is being restarted: an OperationalError."""
    await asyncio.to_thread(rename_table, "containers_container", "containers_away")
    try:
        yield
    finally:
        await asyncio.to_thread(rename_table, "containers_away", "containers_container")


def rename_table(old: str, new: str) -> None:
    with closing(connection.copy()) as own, own.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


def panel_worker(folder: Path) -> WorkerProcess:
    """The real one, on this test's database and Redis."""
    (folder / "panel").mkdir()
    words = {
        "DJANGO_SETTINGS_MODULE": "controlpanel.settings",
        "SLIPWAY_DATA": str(folder),
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
    }
    return WorkerProcess(["-m", "controlpanel.worker"], words, folder / "worker.log")
