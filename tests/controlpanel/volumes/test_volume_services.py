"""Volumes of tenants: who may, what the rows say, and that they follow the host whichever fact comes last."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controlpanel.base import database
from controlpanel.events import ingest, inventory, log
from controlpanel.volumes import copies, projection, rows, services
from controlpanel.volumes.models import Volume
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.model import codec
from engine.model.event import Event, EventKind
from engine.model.volume import ANONYMOUS_LABEL, VolumeSpec

pytestmark = pytest.mark.usefixtures("web")


def spec(name: str = "data", created_ns: int = 0, tenant: str = "acme") -> VolumeSpec:
    return VolumeSpec(tenant=tenant, name=name, created_ns=created_ns or time.time_ns())


@pytest.fixture
def volumes(host: Any) -> Any:
    """The host, which makes what it is asked for."""
    host.on["create"] = lambda payload: {"volume": {**payload["volume"], "created_ns": time.time_ns()}}
    host.on["remove"] = lambda payload: {"volume": payload["volume"]}
    host.on["rename"] = lambda payload: {"volume": {**payload["volume"], "name": payload["name"]}}
    host.on["clone"] = lambda payload: {"volume": {**payload["volume"], "name": payload["name"], "created_ns": time.time_ns()}}
    host.on["resize"] = lambda payload: {"volume": {**payload["volume"], "options": {"size": payload["size"]}}}
    host.on["prune"] = lambda payload: {
        "volumes": [codec.to_json(spec(name)) for name in payload["names"]], "bytes": 7,
    }  # fmt: skip
    return host


async def actions(tenant: int) -> list[str]:
    return [f"{event.action} {event.actor_id}" for event in await database.read(log.read, tenant)]


async def test_made_found_and_removed(people: Any, volumes: Any) -> None:
    bob, charlie = await database.read(people.actor, people.bob), await database.read(people.actor, people.charlie, people.umbrella)
    assert (await services.create(bob, "data", labels={"a": "b"})).labels == {"a": "b"}
    nameless = await services.create(bob)
    assert len(nameless.name) == 64 and nameless.anonymous and ANONYMOUS_LABEL in nameless.labels
    assert [found.name for found in await projection.volumes(bob)] == sorted(["data", nameless.name])
    for act in (projection.volume, services.remove):
        with pytest.raises(NotFound, match=r"^get data: no such volume$"):
            await act(charlie, "data")
    await services.remove(charlie, "data", force=True)
    await services.remove(bob, "data")
    assert [found.name for found in await projection.volumes(bob)] == [nameless.name]
    assert await actions(people.acme.pk) == ["create data", f"create {nameless.name}", "destroy data"]


async def test_a_viewer_looks_and_no_more(people: Any, volumes: Any) -> None:
    victor = await database.read(people.actor, people.victor)
    assert await projection.volumes(victor) == []
    for deed in (
        services.create(victor, "x1"), services.remove(victor, "x1"), services.prune(victor, ["x1"]), copies.rename(victor, "x1", "x2"),
        copies.clone(victor, "x1", "x2"), copies.resize(victor, "x1", "1g"), copies.snapshot(victor, "x1", "s", "take"),
    ):  # fmt: skip
        with pytest.raises(PermissionDenied, match=r"^denied: rule volume\.\w+ of role viewer"):
            await deed


async def test_what_the_host_refuses_changes_no_row(people: Any, volumes: Any) -> None:
    bob = await database.read(people.actor, people.bob)
    await services.create(bob, "data")
    volumes.refuse["slipway.volume.remove"] = FailedPrecondition("remove data: volume is in use - [x]")
    with pytest.raises(FailedPrecondition):
        await services.remove(bob, "data")
    assert (await projection.volume(bob, "data")).name == "data"
    for name in ("a/b", ".x", "x" * 300):
        with pytest.raises(InvalidArgument):
            await services.create(bob, name)
    with pytest.raises(InvalidArgument, match="invalid size"):
        await copies.resize(bob, "data", "1k")


async def test_other_names_copies_sizes_and_a_prune(people: Any, volumes: Any) -> None:
    bob = await database.read(people.actor, people.bob)
    await services.create(bob, "data", options={"size": "10m"})
    assert (await copies.rename(bob, "data", "data2")).name == "data2"
    assert (await copies.clone(bob, "data2", "data3")).name == "data3"
    assert (await copies.resize(bob, "data2", "20m")).size_bytes == 20 << 20
    assert [(each.name, each.size_bytes >> 20) for each in await projection.volumes(bob)] == [("data2", 20), ("data3", 10)]
    assert await services.prune(bob, ["data3"]) == services.Pruned(("data3",), 7)
    assert [each.name for each in await projection.volumes(bob)] == ["data2"]
    assert (await actions(people.acme.pk))[-2:] == ["destroy data3", "prune "]


async def test_of_one_name_the_later_stays(people: Any) -> None:
    """Answers of a removal and a new one may be applied in the other order."""
    first, second = spec(created_ns=1), spec(created_ns=2)
    await database.run(rows.put, people.acme.pk, first)
    assert await database.run(rows.put, people.acme.pk, second)
    assert not await database.run(rows.put, people.acme.pk, first)
    assert not await database.run(rows.drop, people.acme.pk, "data", 1)
    assert await database.run(rows.drop, people.acme.pk, "data", 2)


async def test_the_hosts_list_settles_it(people: Any) -> None:
    gone, there = spec("gone"), spec("there")
    await database.run(rows.put, people.acme.pk, gone)
    before, found = await database.read(inventory.known, "local"), inventory.Inventory()
    event = codec.to_json(
        Event(kind=EventKind.VOLUME_ADDED, tenant="acme", object_id="there", seq=time.time_ns(), time_ns=0, state=codec.to_json(there))
    )
    found.note(event)
    assert await database.run(ingest.apply, event) and not await database.run(ingest.apply, event)
    await database.run(inventory.settle, before, found)
    assert await database.read(lambda: [row.name for row in Volume.everywhere.all()]) == ["there"]
    await database.run(rows.drop, people.acme.pk, "there")
    assert not await database.run(ingest.apply, {**event, "seq": event["seq"] - 10**9})  # what was told before its removal
