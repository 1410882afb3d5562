"""After a power cut: rows without their containers, containers without their rows, and runs that only one side knows of."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.conf import settings

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import projection, services
from controlpanel.containers.models import Container
from controlpanel.containers.recovery import restore
from controlpanel.events import autoremove, ingest, inventory, log
from controlpanel.events.strangers import take_in
from controlpanel.hosts import queries
from controlpanel.tenants.models import Tenant
from engine.errors import AlreadyExists, Internal, NotFound, Unavailable
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState

pytestmark = pytest.mark.usefixtures("web", "image")

BODY = {
    "Image": "busybox",
    "Cmd": ["sleep", "9"],
    "Env": ["A=b"],
    "Labels": {"team": "a"},
    "HostConfig": {"Memory": 64 << 20, "AutoRemove": True, "RestartPolicy": {"Name": "no"}},
}
STAYS = ("tenant_id", "host_id", "engine_id", "name", "image_id", "image", "spec", "docker_config", "docker_host_config", "auto_remove",
         "memory_bytes", "nano_cpus", "pids", "desired", "status", "host_seq", "created_at_ns")  # fmt: skip


async def made(people: Any, host: Any, *, name: str = "web", start: bool = False) -> tuple[ContainerSpec, ContainerState]:
    """What the host's records say of a new container of alice's."""
    alice = await database.read(people.actor, people.alice)
    container_id = (await services.create_container(alice, BODY, name=name)).id
    if start:
        await services.start_container(alice, container_id)
    task, payload = next(asked for asked in host.asked if asked[0].endswith("create") and asked[1]["spec"]["id"] == container_id)
    assert task
    return codec.from_json(ContainerSpec, payload["spec"]), codec.from_json(ContainerState, host.states[container_id])


async def lose_row(people: Any, container_id: str) -> dict[str, Any]:
    """As a power cut takes it: with all that was told of it; and the web process starts anew. What was in the row."""

    def take() -> dict[str, Any]:
        row = Container.everywhere.get(engine_id=container_id)
        row.delete()
        log.Event.everywhere.all().delete()
        return {name: getattr(row, name) for name in STAYS}

    row = await database.read(take)
    projection.clear()
    return row


async def taken_in(spec: ContainerSpec, state: ContainerState) -> bool:
    return await database.run(restore, await database.read(queries.local_host), spec, state)


def listed(*states: ContainerState, tenant: str = "acme", time_ns: int = 0) -> inventory.Inventory:
    found = inventory.Inventory()
    for state in states:
        message = {
            "kind": "container.exited",
            "tenant": tenant,
            "object_id": state.id,
            "seq": state.seq,
            "time_ns": time_ns or time.time_ns(),
        }
        found.note({**message, "state": codec.to_json(state)})
    return found


async def test_a_lost_row_comes_back_as_it_was(people: Any, host: Any) -> None:
    spec, state = await made(people, host, start=True)
    row = await lose_row(people, spec.id)
    found = listed(state)
    assert await database.run(inventory.settle, inventory.Known({}, set()), found) == {spec.id: "acme"}
    assert await taken_in(spec, state)
    assert not await taken_in(spec, state), "twice is once"
    again = await database.read(Container.everywhere.get, engine_id=spec.id)
    assert {name: getattr(again, name) for name in STAYS} == row
    view = await projection.container(await database.read(people.actor, people.alice), "web")
    assert (view.id, view.is_running, view.docker_config["Labels"]) == (spec.id, True, {"team": "a"})
    told = await database.read(log.read, people.acme.pk)
    assert [event.action for event in told] == ["create", "connect", "start"]
    assert told[0].time_ns == row["created_at_ns"]
    audited = await database.read(lambda: Record.objects.filter(tenant_number=people.acme.pk).order_by("-number").first())
    assert (audited.verb, audited.object, audited.door) == ("container.restore", "web", "system")


async def test_what_was_believed_to_be_gone_is_shown_again(people: Any, host: Any) -> None:
    spec, state = await made(people, host, start=True)
    await database.run(inventory.settle, await database.read(inventory.known, "local"), listed())
    alice = await database.read(people.actor, people.alice)
    assert await projection.containers(alice) == []
    assert await taken_in(spec, state)
    assert [view.name for view in await projection.containers(alice)] == ["web"]


async def test_a_container_comes_back_to_the_very_tenant_it_was_made_for(people: Any, host: Any) -> None:
    spec, state = await made(people, host)
    await lose_row(people, spec.id)

    def deleted_and_made_anew() -> None:
        Tenant.objects.get(name="acme").delete()
        Tenant.objects.create(name="acme")

    await database.run(deleted_and_made_anew)
    with pytest.raises(NotFound, match="doctor --repair"):
        await taken_in(spec, state)
    assert await database.read(Container.everywhere.count) == 0


async def test_while_its_name_is_held_a_container_waits(people: Any, host: Any) -> None:
    spec, state = await made(people, host)
    await lose_row(people, spec.id)
    other, _state = await made(people, host)
    with pytest.raises(AlreadyExists):
        await taken_in(spec, state)
    await lose_row(people, other.id)
    assert await taken_in(spec, state)


async def test_a_run_that_the_host_has_lost_is_no_more(people: Any, host: Any) -> None:
    """And old facts of it, still under way, do not bring it back."""
    spec, _created = await made(people, host)
    alice = await database.read(people.actor, people.alice)
    await services.start_container(alice, "web")
    run1 = {"kind": "container.exited", "tenant": "acme", "object_id": spec.id, "seq": 2, "time_ns": time.time_ns()}
    stale = {**run1, "state": host.exited(spec.id, exit_code=5)}
    before, forgotten = await database.read(inventory.known, "local"), ContainerState(id=spec.id)
    assert before.containers == {spec.id: (1, 0)}
    await database.run(inventory.settle, before, listed(forgotten, time_ns=time.time_ns()))
    view = await projection.container(alice, "web")
    assert (view.status, view.host_seq, view.desired, view.state.pid) == ("created", 0, "created", 0)
    assert not await database.run(ingest.apply, stale)
    die = (await database.read(log.read, people.acme.pk))[-1]
    assert (die.action, die.attributes["exitCode"]) == ("die", "137")
    waiting = await services.wait(alice, "web", "removed")
    autoremove.look_again()  # --rm: its end will not be told any more
    await asyncio.wait_for(waiting, 3)


async def test_a_run_after_one_that_was_lost_counts_again(people: Any, host: Any) -> None:
    spec, _created = await made(people, host)
    alice = await database.read(people.actor, people.alice)
    await services.start_container(alice, "web")
    await database.run(inventory.settle, await database.read(inventory.known, "local"), listed(ContainerState(id=spec.id)))
    host.states[spec.id] = {"id": spec.id, "status": "created", "seq": 0, "run": 0}
    assert await services.start_container(alice, "web")
    view = await projection.container(alice, "web")
    assert (view.is_running, view.host_seq) == (True, 1)


async def test_what_happened_since_the_list_began_is_not_taken_back(people: Any, host: Any) -> None:
    _spec, created = await made(people, host)
    before = await database.read(inventory.known, "local")
    alice = await database.read(people.actor, people.alice)
    await services.start_container(alice, "web")
    await database.run(inventory.settle, before, listed(created))
    assert (await projection.container(alice, "web")).is_running


async def test_an_update_is_in_the_hosts_record_too(people: Any, host: Any) -> None:
    from controlpanel.containers.updating import update_container

    await made(people, host)
    alice = await database.read(people.actor, people.alice)
    await update_container(alice, "web", {"Memory": 128 << 20, "MemorySwap": -1})
    row = await database.read(Container.everywhere.get, name="web")
    assert host.asked[-1][1]["host_config"] == row.docker_host_config


class Agent:
    """Speaks the answer line of op ``spec``, as workers.contract has it: by container id, first to last."""

    def __init__(self) -> None:
        self.answers: dict[str, list[dict[str, Any]]] = {}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = json.loads(await reader.readline())
        assert words["op"] == "spec"
        writer.write(json.dumps(self.answers[words["id"]].pop(0)).encode() + b"\n")
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        path = settings.SLIPWAY_RUN / "agent.sock"
        async with await asyncio.start_unix_server(self._serve, path):
            yield
        path.unlink()


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    key = settings.SLIPWAY_DATA / "panel" / "ticket.key"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text("a key of more than 32 letters for the tickets")
    agent = Agent()
    async with agent.listening():
        yield agent
    key.unlink()


async def test_strangers_come_in_whatever_is_wrong_with_others(people: Any, host: Any, agent: Agent) -> None:
    spec, state = await made(people, host)
    await lose_row(people, spec.id)
    names = {number: number * 64 for number in "abcd"}
    agent.answers = {
        names["a"]: [{"error": NotFound("No such container").to_json()}],
        names["b"]: [{"error": Internal("as it happens").to_json()}],
        names["c"]: [{"ok": {"spec": {"id": names["c"], "shown": {"tenant": people.acme.pk}}, "state": {}}}],
        spec.id: [{"ok": {"spec": codec.to_json(spec), "state": codec.to_json(state)}}],
    }
    left = await take_in({names["a"]: "acme", names["b"]: "acme", names["c"]: "acme", spec.id: "acme"})
    assert left == {}
    assert await database.read(lambda: list(Container.everywhere.values_list("name", flat=True))) == ["web"]
    agent.answers = {names["d"]: [{"error": Unavailable("away").to_json()}]}
    with pytest.raises(Unavailable):
        await take_in({names["d"]: "acme"})


async def test_a_stranger_whose_name_is_held_is_asked_for_again(people: Any, host: Any, agent: Agent) -> None:
    spec, state = await made(people, host)
    await lose_row(people, spec.id)
    other, _state = await made(people, host)
    agent.answers = {spec.id: [{"ok": {"spec": codec.to_json(spec), "state": codec.to_json(state)}}] * 2}
    held = await take_in({spec.id: "acme"})
    assert held == {spec.id: "acme"}
    await lose_row(people, other.id)
    assert await take_in(held) == {}
    assert await database.read(lambda: Container.everywhere.get().engine_id) == spec.id
