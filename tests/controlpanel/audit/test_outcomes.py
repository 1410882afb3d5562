"""What came of an act is in the log: failures of the host, refusals by every door, clients that go away in the middle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.test import AsyncClient

from controlpanel.audit import chain
from controlpanel.audit import services as audit
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import services, updating
from controlpanel.networks import services as networks
from controlpanel.tenants import refusals
from controlpanel.tenants import services as tenants
from controlpanel.tenants.actor import Role, command_line
from engine.errors import FailedPrecondition, PermissionDenied, QuotaExceeded

pytestmark = pytest.mark.usefixtures("web", "image")
API = "/api/v1/tenants/acme"


@pytest.fixture(autouse=True)
def fresh_allowances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_allowances", {})


async def records(people: Any) -> list[Record]:
    """Oldest first."""
    return await database.read(lambda: list(Record.objects.for_tenant(people.acme.pk).reverse()))


async def actor(people: Any, name: str = "alice") -> Any:
    return await database.read(people.actor, getattr(people, name))


async def browser(people: Any, name: str) -> AsyncClient:
    made = AsyncClient()
    await made.aforce_login(getattr(people, name))
    return made


async def test_what_a_host_refuses_has_a_record_about_the_first(people: Any, host: Any, container: Any) -> None:
    host.refuse["slipway.container.start"] = FailedPrecondition("no such command", exit_code=127)
    with pytest.raises(FailedPrecondition):
        await services.start_container(await actor(people), "web")
    asked, failed = await records(people)
    assert (asked.verb, asked.result, asked.about) == ("container.start", "", 0)
    assert (failed.verb, failed.object, failed.result, failed.about) == ("container.start", "web", "failed", asked.number)
    assert failed.actor == "alice" and failed.detail == {"error": "no such command", "code": "failed_precondition"}
    assert await database.read(chain.first_broken, people.acme.pk) is None


async def test_a_change_tells_before_and_after(people: Any, host: Any) -> None:
    alice = await actor(people)
    await services.create_container(alice, {"Image": "busybox", "HostConfig": {"Memory": 64 << 20}}, name="web")
    await updating.update_container(alice, "web", {"Memory": 128 << 20, "MemorySwap": 256 << 20})
    await services.rename_container(alice, "web", "shop")
    await database.run(tenants.change_limits, command_line(), people.acme, pids=100)
    await database.run(tenants.add_member, alice, people.bob, Role.VIEWER)
    changes = {row.verb: row.detail for row in await records(people) if "before" in row.detail}
    assert changes["container.update"]["before"]["memory_bytes"] == 64 << 20
    assert changes["container.update"]["after"]["memory_bytes"] == 128 << 20
    assert changes["container.rename"] == {"before": "web", "after": "shop"}
    assert changes["tenant.limits"] == {"before": {"pids": 0}, "after": {"pids": 100}}
    assert changes["member.add"] == {"before": "developer", "after": "viewer"}


async def test_each_door_tells_its_refusals_by_role_and_quota(people: Any, host: Any) -> None:
    victor = await browser(people, "victor")
    assert (await victor.post(f"{API}/containers/web/stop", {}, content_type="application/json")).status_code == 403
    assert (await victor.post("/t/acme/containers/web/stop")).status_code == 403
    people.acme.networks_max = 1
    await people.acme.asave(update_fields=["networks_max"])
    alice = await browser(people, "alice")
    for name, status in (("one", 201), ("two", 403)):
        made = await alice.post(f"{API}/networks", {"name": name}, content_type="application/json")
        assert made.status_code == status, made.content
    refused = [(row.actor, row.verb, row.object, row.detail["rule"]) for row in await records(people) if row.result == "refused"]
    assert refused == [
        ("victor", "container.stop", f"{API}/containers/web/stop", "container.stop"),
        ("victor", "container.stop", "/t/acme/containers/web/stop", "container.stop"),
        ("alice", "network.create", f"{API}/networks", "quota.networks"),
    ]


async def test_looking_is_not_told(people: Any, host: Any) -> None:
    charlie = await browser(people, "charlie")
    assert (await charlie.post(f"{API}/containers/web/stop", {}, content_type="application/json")).status_code == 404
    victor = await browser(people, "victor")
    assert (await victor.get(f"{API}/tokens")).status_code == 403  # token.view
    assert await records(people) == []


async def test_who_is_refused_again_and_again_does_not_fill_the_disk(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "EACH_S", 0.3)
    victor, error = await actor(people, "victor"), PermissionDenied("no", rule="container.stop")
    for _ in range(refusals.BURST + 50):
        await refusals.tell_of(victor, "container.stop", "web", error)
    assert len(await records(people)) in (refusals.BURST, refusals.BURST + 1)
    for _ in range(100):
        if (last := (await records(people))[-1]).detail.get("unrecorded"):
            break
        await asyncio.sleep(0.05)
    unrecorded = sum(row.detail.get("unrecorded", 0) for row in await records(people))
    assert (last.verb, last.result) == ("container.stop", "refused") and unrecorded >= 48


async def test_what_was_counted_is_written_when_the_process_ends(people: Any) -> None:
    victor, error = await actor(people, "victor"), QuotaExceeded("full", rule="quota.networks")
    for _ in range(refusals.BURST + 7):
        await refusals.tell_of(victor, "network.create", "x", error)
    await refusals.stop()
    last = (await records(people))[-1]
    assert (last.actor, last.detail) == ("victor", {"unrecorded": 7})


async def test_a_stream_is_recorded_before_it_begins_and_when_its_client_goes_away(people: Any) -> None:
    alice = await actor(people)
    with pytest.raises(ConnectionResetError):
        async with audit.recorded(alice, "container.files_write", "web", path="/etc"):
            assert [row.result for row in await records(people)] == ["begun"]
            raise ConnectionResetError("the client went away")
    task = asyncio.ensure_future(_upload(alice))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with audit.recorded(alice, "image.pull", "busybox") as act:
        await database.run(act.done, digest="sha256:…")
    found = await records(people)
    assert [(row.result, row.about) for row in found] == [
        ("begun", 0),
        ("failed", 1),
        ("begun", 0),
        ("failed", 3),
        ("begun", 0),
        ("done", 5),
    ]
    assert found[1].detail == {"error": "the client went away"}


async def _upload(alice: Any) -> None:
    async with audit.recorded(alice, "volume.files_write", "data"):
        await asyncio.sleep(60)


async def test_a_policys_refusal_inside_of_an_act_is_told_once(people: Any, host: Any) -> None:
    host.refuse["slipway.network.create"] = PermissionDenied("10.0.0.0/8 overlaps", rule="network.subnet")
    alice = await browser(people, "alice")
    made = await alice.post(f"{API}/networks", {"name": "one"}, content_type="application/json")
    assert made.status_code == 403
    assert [(row.verb, row.result, row.about) for row in await records(people)][-2:] == [
        ("network.create", "", 0),
        ("network.create", "refused", (await records(people))[-2].number),
    ]
    assert await networks.networks(await actor(people)) != []
