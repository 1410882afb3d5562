"""Restart, back-off and prune in rows, projection, waiters and events, against a host that speaks the contract."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import projection, pruning, restarting, services
from controlpanel.events import log
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from tests.controlpanel.conftest import ingest, until

BODY = {"Image": "busybox", "Cmd": ["sleep", "9"]}

pytestmark = pytest.mark.usefixtures("web", "image")


async def actor(people: Any, user: str = "alice", tenant: Any = None) -> Any:
    return await database.read(people.actor, getattr(people, user), tenant)


async def actions(people: Any) -> list[str]:
    return [event.action for event in await database.read(log.read, people.acme.pk) if event.type == "container"]


def begun_again(host: Any, container_id: str, **words: Any) -> dict[str, Any]:
    """The state after the agent has started it."""
    state = host.states[container_id]
    run = state["run"] + 1
    words = {"status": "running", "run": run, "seq": 2 * run - 1, "change": 0, "pid": 4712, "started_at_ns": time.time_ns(), **words}
    host.states[container_id] = {**state, **words}
    return host.states[container_id]  # type: ignore[no-any-return]


def waits(host: Any, container_id: str) -> dict[str, Any]:
    """The state while its policy's back-off runs."""
    return {**host.exited(container_id, 1), "status": "restarting", "change": 1, "restart_count": 1}


async def running(people: Any, host: Any, **host_config: Any) -> tuple[Any, str]:
    host.on.clear()
    alice = await actor(people)
    made = await services.create_container(alice, {**BODY, "HostConfig": host_config}, name="web")
    await services.start_container(alice, "web")
    return alice, made.id


@pytest.fixture
def host(host: Any) -> Any:
    """Its answer to a restart is the state before it, as of what runs."""
    do = host._do
    host._do = lambda verb, payload: {"state": host.states[payload["id"]]} if verb in ("restart", "kill") else do(verb, payload)
    return host


async def test_restart_answers_when_it_runs_again_and_tells_what_moby_tells(people: Any, host: Any) -> None:
    alice, number = await running(people, host, AutoRemove=True)
    task = asyncio.ensure_future(restarting.restart_container(alice, "web", timeout_s=3))
    await until(lambda: "container.restart" in host.verbs())
    assert host.asked[-1][1] == {"tenant": "acme", "id": number, "signal": "", "timeout_s": 3}
    await ingest(host.exited(number, 143))
    await asyncio.sleep(0.05)
    assert not task.done()  # and it was not removed, though --rm
    await ingest(begun_again(host, number))
    await asyncio.wait_for(task, 5)
    assert (await actions(people))[2:] == ["kill", "die", "stop", "start", "restart"]
    view = await projection.container(alice, "web")
    assert (view.status, view.desired, view.state.run) == ("running", "running", 2)


async def test_a_restart_that_cannot_start_says_why(people: Any, host: Any) -> None:
    alice, number = await running(people, host)
    task = asyncio.ensure_future(restarting.restart_container(alice, "web"))
    await until(lambda: "container.restart" in host.verbs())
    await ingest(host.exited(number, 143))
    failed = {"status": "exited", "seq": 4, "pid": 0, "exit_code": 127, "error": "exec: not found"}
    await ingest(begun_again(host, number, **failed))
    with pytest.raises(FailedPrecondition, match="exec: not found"):
        await asyncio.wait_for(task, 5)
    assert (await projection.container(alice, "web")).desired == "stopped"


async def test_wait_returns_at_each_exit_and_what_waits_for_its_restart_counts_as_running(people: Any, host: Any) -> None:
    alice, number = await running(people, host, RestartPolicy={"Name": "always"})
    first = await services.wait(alice, "web")
    await ingest(waits(host, number))
    assert (await asyncio.wait_for(first, 1)).exit_code == 1
    view = await projection.container(alice, "web")
    assert (view.status, view.is_running, view.desired, view.state.has_process) == ("restarting", True, "running", False)
    assert await services.start_container(alice, "web") is False
    second = await services.wait(alice, "web")
    assert not second.done()
    await ingest(begun_again(host, number))
    assert not second.done()
    await ingest(waits(host, number))
    await asyncio.wait_for(second, 1)
    third, removed = await services.wait(alice, "web", "next-exit"), await services.wait(alice, "web", "removed")
    await ingest({**host.states[number], "status": "exited", "change": 2})  # it was stopped during the back-off
    await asyncio.wait_for(third, 1)
    assert not removed.done()
    removed.cancel()
    assert (await actions(people))[1:] == ["start", "die", "start", "die"]


async def test_stop_during_the_back_off_tells_no_signal(people: Any, host: Any) -> None:
    alice, number = await running(people, host, RestartPolicy={"Name": "always"})
    await ingest(waits(host, number))
    host.states[number] = {**host.states[number], "status": "exited", "change": 2}
    assert await services.stop_container(alice, "web") is True
    assert (await projection.container(alice, "web")).status == "exited"
    assert (await actions(people))[2:] == ["die", "stop"]


async def test_a_kill_after_the_time_of_a_stop_is_told_and_a_change_of_health(people: Any, host: Any) -> None:
    alice, number = await running(people, host)
    for change, status in ((1, "healthy"), (2, "unhealthy"), (3, "unhealthy")):
        await ingest({**host.states[number], "change": change, "health": {"status": status}})
    task = asyncio.ensure_future(services.stop_container(alice, "web"))
    await until(lambda: "container.stop" in host.verbs())
    await ingest(host.exited(number, 137))
    await task
    assert (await actions(people))[2:] == ["health_status: healthy", "health_status: unhealthy", "kill", "kill", "die", "stop"]


async def test_prune_takes_what_does_not_run_and_passes_the_filter(people: Any, host: Any) -> None:
    alice, number = await running(people, host)
    old = await services.create_container(alice, {**BODY, "Labels": {"keep": "no"}})
    kept = await services.create_container(alice, {**BODY, "Labels": {"keep": "yes"}})
    charlie = await actor(people, "charlie", people.umbrella)
    await services.create_container(charlie, BODY)
    done = await pruning.prune(alice, lambda view: view.spec.labels.get("keep") != "yes")
    assert done.ids == (old.id,)
    assert {view.id for view in await projection.containers(alice)} == {number, kept.id}
    assert len(await projection.containers(charlie)) == 1
    told = (await database.read(log.read, people.acme.pk))[-1]
    assert (told.action, told.actor_id, told.attributes) == ("prune", "", {"reclaimed": "0"})
    record = await database.read(lambda: Record.objects.filter(verb="container.prune").get())
    assert (record.object, record.detail) == ("acme", {"containers": 1})


async def test_who_may_restart_and_prune(people: Any, host: Any) -> None:
    await running(people, host)
    victor, charlie = await actor(people, "victor"), await actor(people, "charlie", people.umbrella)
    with pytest.raises(PermissionDenied):
        await restarting.restart_container(victor, "web")
    with pytest.raises(PermissionDenied):
        await pruning.prune(victor)
    with pytest.raises(NotFound):
        await restarting.restart_container(charlie, "web")
    with pytest.raises(InvalidArgument, match="invalid signal: NOPE"):
        await restarting.restart_container(await actor(people), "web", signal="NOPE")
