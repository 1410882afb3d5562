"""An operation is written before it is sent, and its answer is applied once, whoever brings it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controlpanel.base import database
from controlpanel.containers import projection, services
from controlpanel.hosts import dispatch, operations
from controlpanel.hosts import tenants as host_tenants
from controlpanel.hosts.models import Operation
from controlpanel.tenants.actor import command_line
from controlpanel.tenants.models import Tenant
from engine.errors import Unavailable
from tests.controlpanel.conftest import until

BODY = {"Image": "busybox", "Cmd": ["true"]}

pytestmark = pytest.mark.usefixtures("web", "image")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    call = dispatch.call

    async def soon(*words: Any, **options: Any) -> dict[str, Any]:
        return await call(*words, **{**options, "timeout_s": 0.3})

    monkeypatch.setattr(dispatch, "call", soon)


async def the_operation(task: str) -> Operation:
    found: Operation = await database.read(lambda: Operation.everywhere.select_related("host", "tenant").get(task=task))
    return found


async def test_without_an_answer_the_row_stays_until_it_is_known(people: Any, host: Any, impatient: None) -> None:
    alice = await database.read(people.actor, people.alice)
    host.silent.add("slipway.container.create")
    with pytest.raises(Unavailable):
        await services.create_container(alice, BODY, name="web")
    operation = await the_operation("slipway.container.create")
    assert operation.state == "queued"
    view = await projection.container(alice, "web")
    answer = {"ok": {"state": {"id": view.id, "status": "created", "seq": 0, "run": 0}}}
    assert await database.run(operations.settle, operation, answer) is not None
    assert (await projection.container(alice, "web")).host_seq == 0


async def test_a_late_refusal_frees_the_name(people: Any, host: Any, impatient: None) -> None:
    alice = await database.read(people.actor, people.alice)
    host.silent.add("slipway.container.create")
    with pytest.raises(Unavailable):
        await services.create_container(alice, BODY, name="web")
    error = {"error": {"code": "not_found", "message": "No such image", "detail": {}}}
    await database.run(operations.settle, await the_operation("slipway.container.create"), error)
    assert await projection.containers(alice) == []


async def test_the_second_answer_does_nothing(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    made = await services.create_container(alice, BODY, name="web")
    operation = await the_operation("slipway.container.create")
    assert operation.state == "done"
    error = {"error": {"code": "internal", "message": "late", "detail": {}}}
    assert await database.run(operations.settle, operation, error) is None
    assert (await projection.container(alice, "web")).id == made.id


async def test_a_caller_that_goes_away_does_not_undo_what_it_asked(people: Any, host: Any) -> None:
    """Ctrl-C between the message and its answer."""
    alice = await database.read(people.actor, people.alice)
    await services.create_container(alice, BODY, name="web")
    starting = asyncio.ensure_future(services.start_container(alice, "web"))
    await until(lambda: "container.start" in host.verbs())
    starting.cancel()
    await until(lambda: projection.peek(people.acme.pk, host.asked[-1][1]["id"]).is_running)  # type: ignore[union-attr]
    assert (await the_operation("slipway.container.start")).state == "done"


async def test_operations_are_told_to_their_tenant_while_they_run_and_when_they_end(people: Any, host: Any) -> None:
    from controlpanel.base import live

    alice = await database.read(people.actor, people.alice)
    await host_tenants.ensure(alice.tenant)
    with live.subscribe(people.acme.pk, "operation") as mine, live.subscribe(people.umbrella.pk) as others:
        await services.create_container(alice, BODY, name="web")
        told = [(await mine.next())[0] for _ in range(2)]
        assert [(message["verb"], message["state"]) for message in told] == [
            ("container.create", "queued"),
            ("container.create", "done"),
        ]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(others.next(), 0.05)


async def test_a_tenant_is_asked_for_once(people: Any, host: Any) -> None:
    tenant = await database.read(Tenant.objects.get, name="acme")
    await host_tenants.ensure(tenant)
    await host_tenants.ensure(await database.read(Tenant.objects.get, name="acme"))
    await host_tenants.change_limits(command_line(), tenant, memory_bytes=1 << 30)
    assert [payload["limits"]["memory_bytes"] for _task, payload in host.asked] == [0, 1 << 30]
