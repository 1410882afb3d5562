"""The life of a container in rows, projection and waiters, against a host that speaks the contract."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlpanel.base import database
from controlpanel.containers import projection, services
from controlpanel.containers.models import Container
from controlpanel.events import log
from controlpanel.hosts.models import Operation
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded
from tests.controlpanel.conftest import ingest, until

BODY = {"Image": "busybox", "Cmd": ["echo", "hi"]}

pytestmark = pytest.mark.usefixtures("web", "image")


async def actor(people: Any, user: str = "alice", tenant: Any = None) -> Any:
    return await database.read(people.actor, getattr(people, user), tenant)


async def actions(people: Any) -> list[str]:
    return [event.action for event in await database.read(log.read, people.acme.pk) if event.type == "container"]


async def test_create_start_exit_remove_leaves_events_in_dockers_order(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    view = await projection.container(alice, "web")
    assert (view.id, view.status, view.host_seq, view.spec.args) == (made.id, "created", 0, ("echo", "hi"))
    assert await services.start_container(alice, "web") is True
    assert (await projection.container(alice, "/web")).is_running
    assert await services.start_container(alice, "web") is False
    await ingest(host.exited(made.id, 3))
    view = await projection.container(alice, made.id[:12])
    assert (view.status, view.state.exit_code, view.desired) == ("exited", 3, "stopped")
    await services.remove_container(alice, "web")
    with pytest.raises(NotFound, match="No such container: web"):
        await projection.container(alice, "web")
    assert host.verbs() == ["tenant.ensure", "container.create", "container.start", "container.remove"]
    assert await actions(people) == ["create", "start", "die", "destroy"]
    states = await database.read(lambda: set(Operation.everywhere.values_list("state", flat=True)))
    assert states == {"done"}


async def test_a_name_in_use_is_mobys_conflict_and_free_in_another_tenant(people: Any, host: Any) -> None:
    made = await services.create_container(await actor(people), BODY, name="web")
    with pytest.raises(AlreadyExists) as caught:
        await services.create_container(await actor(people), BODY, name="/web")
    assert caught.value.message == (
        f'Conflict. The container name "/web" is already in use by container "{made.id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    await services.create_container(await actor(people, "charlie", people.umbrella), BODY, name="web")


async def test_an_unknown_image_is_mobys_404(people: Any, host: Any) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nope:latest$"):
        await services.create_container(await actor(people), {"Image": "nope", "Cmd": ["x"]})
    assert host.verbs() == []


async def test_a_refused_create_leaves_no_row_and_frees_the_name(people: Any, host: Any) -> None:
    host.refuse["slipway.container.create"] = InvalidArgument("no command specified")
    with pytest.raises(InvalidArgument):
        await services.create_container(await actor(people), BODY, name="web")
    assert await database.read(Container.everywhere.count) == 0
    host.refuse.clear()
    await services.create_container(await actor(people), BODY, name="web")


async def test_a_made_up_name_has_two_words(people: Any, host: Any) -> None:
    made = await services.create_container(await actor(people), BODY)
    assert made.view.name.count("_") == 1
    assert made.view.spec.name == made.view.name == host.asked[-1][1]["spec"]["name"]


async def test_a_failed_start_is_a_run_that_ended(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    waiting = await services.wait(alice, "web", "next-exit")
    host.refuse["slipway.container.start"] = InvalidArgument("exec: not found", exit_code=127)
    with pytest.raises(InvalidArgument):
        await services.start_container(alice, "web")
    view = await projection.container(alice, made.id)
    assert (view.status, view.state.exit_code, view.state.error, view.host_seq) == ("created", 127, "exec: not found", 2)
    assert (await asyncio.wait_for(waiting, 1)).exit_code == 127


async def test_an_exit_that_overtakes_the_answer_to_start_stays(people: Any, host: Any) -> None:
    """A container that ends at once: the agent's event is applied before the worker's reply."""
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    await ingest({"id": made.id, "status": "exited", "run": 1, "seq": 2, "exit_code": 5, "started_at_ns": 1, "finished_at_ns": 2})
    await services.start_container(alice, "web")
    view = await projection.container(alice, "web")
    assert (view.status, view.state.exit_code, view.host_seq) == ("exited", 5, 2)
    assert await actions(people) == ["create", "start", "die"]


async def test_wait_is_released_when_inspect_already_agrees(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    waiting = await services.wait(alice, "web", "next-exit")
    await services.start_container(alice, "web")
    assert not waiting.done()
    seen: list[tuple[str, int]] = []

    async def wait_then_inspect() -> None:
        state = await waiting
        seen.append(((await projection.container(alice, "web")).status, state.exit_code))

    task = asyncio.ensure_future(wait_then_inspect())
    await ingest(host.exited(made.id, 7))
    await task
    assert seen == [("exited", 7)]
    assert (await services.wait(alice, "web")).result().exit_code == 7


async def test_stop_answers_after_the_exit_and_tells_kill_die_stop(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    await services.start_container(alice, "web")
    stopping = asyncio.ensure_future(services.stop_container(alice, "web", timeout_s=3))
    await until(lambda: "container.stop" in host.verbs())
    assert host.asked[-1][1] == {"tenant": "acme", "id": made.id, "signal": "SIGTERM", "timeout_s": 3}
    await asyncio.sleep(0.05)
    assert not stopping.done()
    await ingest(host.exited(made.id, 143))
    assert await stopping is True
    assert (await actions(people))[2:] == ["kill", "die", "stop"]
    assert await services.stop_container(alice, "web") is False


async def test_sigkill_answers_after_the_exit_and_what_does_not_run_is_refused(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    with pytest.raises(FailedPrecondition, match=f"^container {made.id} is not running$"):
        await services.kill_container(alice, "web")
    await services.start_container(alice, "web")
    killing = asyncio.ensure_future(services.kill_container(alice, "web"))
    await until(lambda: "container.kill" in host.verbs())
    await ingest(host.exited(made.id, 137))
    await asyncio.wait_for(killing, 1)


async def test_a_running_container_is_removed_by_force_only(people: Any, host: Any) -> None:
    alice = await actor(people)
    await services.create_container(alice, BODY, name="web")
    await services.start_container(alice, "web")
    with pytest.raises(FailedPrecondition) as caught:
        await services.remove_container(alice, "web")
    assert caught.value.message == (
        'cannot remove container "web": container is running: stop the container before removing or force remove'
    )
    waiting = await services.wait(alice, "web", "removed")
    await services.remove_container(alice, "web", force=True)
    await asyncio.wait_for(waiting, 1)
    assert await projection.containers(alice) == []


async def test_rm_containers_go_after_their_exit_and_release_removed(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, {**BODY, "HostConfig": {"AutoRemove": True}}, name="web")
    waiting = await services.wait(alice, "web", "removed")
    await services.start_container(alice, "web")
    await ingest(host.exited(made.id, 4))
    assert (await asyncio.wait_for(waiting, 5)).exit_code == 4
    await services.create_container(alice, BODY, name="web")  # the name is free when the waiter wakes


async def test_rm_containers_that_cannot_start_go_too(people: Any, host: Any) -> None:
    alice = await actor(people)
    await services.create_container(alice, {**BODY, "HostConfig": {"AutoRemove": True}}, name="web")
    waiting = await services.wait(alice, "web", "removed")
    host.refuse["slipway.container.start"] = InvalidArgument("not found", exit_code=127)
    with pytest.raises(InvalidArgument):
        await services.start_container(alice, "web")
    assert (await asyncio.wait_for(waiting, 5)).exit_code == 127


async def test_rename_holds_the_new_name_and_is_undone_when_the_host_refuses(people: Any, host: Any) -> None:
    alice = await actor(people)
    await services.create_container(alice, BODY, name="web")
    await services.create_container(alice, BODY, name="db")
    with pytest.raises(AlreadyExists, match='name "/db" is already in use'):
        await services.rename_container(alice, "web", "db")
    await services.rename_container(alice, "web", "front")
    assert (await projection.container(alice, "front")).spec.name == "front"
    host.refuse["slipway.container.rename"] = InvalidArgument("no")
    with pytest.raises(InvalidArgument):
        await services.rename_container(alice, "front", "back")
    assert (await projection.container(alice, "front")).name == "front"
    with pytest.raises(NotFound):
        await projection.container(alice, "back")


async def test_strangers_meet_404_viewers_403(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_container(alice, BODY, name="web")
    charlie = await actor(people, "charlie", people.umbrella)
    for name in ("web", made.id, made.id[:6]):
        for act in (services.start_container, services.stop_container, services.kill_container, services.remove_container):
            with pytest.raises(NotFound, match=f"^No such container: {name}$"):
                await act(charlie, name)
    victor = await actor(people, "victor")
    with pytest.raises(PermissionDenied, match=r"^denied: rule container\.start of role viewer"):
        await services.start_container(victor, "web")
    with pytest.raises(NotFound):
        await actor(people, "charlie")


async def test_limits_of_the_tenant_are_named_in_the_refusal(people: Any, host: Any) -> None:
    people.acme.memory_bytes, people.acme.containers_max = 100 << 20, 2
    await database.run(people.acme.save)
    alice = await actor(people)
    with pytest.raises(QuotaExceeded, match="memory is limited to 104857600 bytes"):
        await services.create_container(alice, {**BODY, "HostConfig": {"Memory": 200 << 20}})
    for name in ("one", "two"):
        await services.create_container(alice, {**BODY, "HostConfig": {"Memory": 60 << 20}}, name=name)
    with pytest.raises(QuotaExceeded, match="containers is limited to 2"):
        await services.create_container(alice, BODY)
    await services.start_container(alice, "one")
    with pytest.raises(QuotaExceeded, match=r"62914560 are in use and 62914560 more"):
        await services.start_container(alice, "two")
