"""After a power cut: networks whose rows are lost, and rows whose networks are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controlpanel.base import database
from controlpanel.events import ingest, inventory
from controlpanel.events import log as events
from controlpanel.networks import projection, services
from controlpanel.networks.models import Network

pytestmark = pytest.mark.usefixtures("web", "image")


async def made(people: Any, host: Any) -> tuple[Any, dict[str, Any]]:
    """Alice, and what the host's inventory says of a new network of hers."""
    alice = await database.read(people.actor, people.alice)
    network = await services.create_network(alice, {"Name": "back", "Labels": {"a": "b"}, "Options": {"foo": "bar"}, "Attachable": True})
    spec = next(payload["spec"] for task, payload in host.asked if task == "slipway.network.create")
    spec = {**spec, "pool": {"subnet": network.pool.subnet, "gateway": network.pool.gateway}}
    now = time.time_ns()
    message = {
        "kind": "network.added",
        "tenant": "acme",
        "object_id": network.id,
        "seq": now,
        "time_ns": now,
        "host": "local",
        "state": spec,
    }
    return alice, message


async def test_a_lost_row_comes_back_as_it_was(people: Any, host: Any) -> None:
    alice, message = await made(people, host)
    before = await projection.network(alice, "back")

    def lose() -> None:
        Network.everywhere.all().delete()
        events.Event.everywhere.all().delete()

    await database.run(lose)
    projection.clear()
    assert await database.run(ingest.apply, message) is True
    assert await projection.network(alice, "back") == before
    assert await database.run(ingest.apply, message) is False


async def test_what_was_removed_or_is_anothers_does_not_come_back(people: Any, host: Any) -> None:
    alice, message = await made(people, host)
    await services.remove_network(alice, "back")
    assert await database.run(ingest.apply, message) is False
    stranger = {**message, "object_id": "ab" * 32, "state": {**message["state"], "id": "ab" * 32, "shown": {"tenant": people.umbrella.pk}}}
    assert await database.run(ingest.apply, stranger) is False
    plain = {**message, "object_id": "cd" * 32, "state": {**message["state"], "id": "cd" * 32, "shown": {}}}
    assert await database.run(ingest.apply, plain) is False  # made at the engine's own command line
    assert await database.read(Network.everywhere.count) == 0


async def test_a_network_that_the_host_lost_goes_with_its_event(people: Any, host: Any) -> None:
    alice, message = await made(people, host)
    before = await database.read(inventory.known, "local")
    assert before.networks == {message["object_id"]}
    found = inventory.Inventory()
    found.note(message)
    await database.run(inventory.settle, before, found)
    assert (await projection.network(alice, "back")).ready
    await database.run(inventory.settle, before, inventory.Inventory())
    assert [view.name for view in await projection.networks(alice)] == ["bridge", "none"]
    told = [
        (event.action, event.attributes["name"]) for event in await database.read(events.read, people.acme.pk) if event.type == "network"
    ]
    assert told == [("create", "back"), ("destroy", "back")]
