"""Images of tenants and public ones: names, tags, removal, and rows that follow the host."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.events import ingest as events
from controlpanel.events import log
from controlpanel.images import projection, services
from controlpanel.images.models import Image
from engine.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from engine.model.event import EventKind

ID = "sha256:" + "12" * 32
RECORD = {
    "id": ID,
    "chain_ids": ["ee" * 32],
    "diff_ids": ["sha256:" + "ee" * 32],
    "config": {},
    "size_bytes": 7,
    "created": "2026-02-01T00:00:00Z",
}
LOADED = [{"refs": ["app:1", "app:latest"], "record": RECORD}]

pytestmark = pytest.mark.usefixtures("web", "image")


async def loaded(actor: Any) -> None:
    async with audit.recorded(actor, "image.load", "archive") as act:
        await services.added(actor, LOADED, act)


async def test_a_loaded_image_is_its_tenants_alone(people: Any) -> None:
    alice, charlie = people.alice, people.charlie
    alice, charlie = await database.read(people.actor, alice), await database.read(people.actor, charlie, people.umbrella)
    await loaded(alice)
    assert (await projection.image(alice, "app")).refs == ("app:1", "app:latest")
    assert [view.refs for view in await projection.images(alice)] == [("app:1", "app:latest"), ("busybox:latest",)]
    for name in ("app", ID, ID[7:19]):
        with pytest.raises(NotFound, match=r"^No such image: "):
            await projection.image(charlie, name)
    assert [event.action for event in await database.read(log.read, people.acme.pk)] == ["load"]


async def test_an_image_is_found_by_name_id_and_start_of_id(people: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    await loaded(alice)
    for name in ("busybox", "busybox:latest", "docker.io/library/busybox", "ab" * 32, "sha256:" + "ab" * 32, "abab"):
        assert (await projection.image(alice, name)).id == "sha256:" + "ab" * 32
    with pytest.raises(NotFound, match=r"^No such image: nope:latest$"):
        await projection.image(alice, "nope")
    with pytest.raises(InvalidArgument, match="must be lowercase"):
        await projection.image(alice, "Busybox")


async def test_a_tag_of_a_public_image_is_the_tenants_own(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    await services.tag(alice, "busybox", "mine:1")
    view = await projection.image(alice, "mine:1")
    assert (view.id, view.refs, view.public) == ("sha256:" + "ab" * 32, ("mine:1",), False)
    assert host.asked == [("slipway.image.tag", {"tenant": "acme", "image_id": view.id, "ref": "mine:1"})]
    with pytest.raises(NotFound):
        await projection.image(await database.read(people.actor, people.charlie, people.umbrella), "mine:1")


async def test_removal_follows_what_the_host_did(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    await loaded(alice)
    host._do = lambda verb, payload: {"untagged": ["app:1"], "deleted": []}
    assert await services.remove(alice, "app:1") == {"untagged": ["app:1"], "deleted": []}
    assert (await projection.image(alice, "app")).refs == ("app:latest",)
    host._do = lambda verb, payload: {"untagged": ["app:latest"], "deleted": [ID, "sha256:" + "ee" * 32], "images": [ID]}
    await services.remove(alice, ID)
    assert host.asked[-1][1] == {"tenant": "acme", "force": False, "no_prune": False, "image_id": ID}
    with pytest.raises(NotFound):
        await projection.image(alice, ID)
    assert [event.action for event in await database.read(log.read, people.acme.pk)] == ["load", "untag", "untag", "delete"]


async def test_a_deletion_is_told_though_the_hosts_event_came_before_its_answer(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    await loaded(alice)
    asked, told = threading.Event(), threading.Event()

    def remove(_payload: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        told.wait(30)
        return {"untagged": ["app:1", "app:latest"], "deleted": [ID], "images": [ID]}

    host.on["remove"] = remove
    removing = asyncio.ensure_future(services.remove(alice, ID))
    assert await asyncio.to_thread(asked.wait, 30)
    now = time.time_ns()
    gone = {"kind": EventKind.IMAGE_REMOVED, "tenant": "acme", "object_id": ID, "seq": now, "time_ns": now, "state": {}}
    await database.run(events.apply, gone)
    told.set()
    await removing
    assert [event.action for event in await database.read(log.read, people.acme.pk)] == ["load", "untag", "untag", "delete"]


async def test_a_refusal_of_the_host_changes_nothing(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    await loaded(alice)
    host.refuse["slipway.image.remove"] = FailedPrecondition("conflict: unable to delete 1212 (cannot be forced)")
    with pytest.raises(FailedPrecondition):
        await services.remove(alice, "app:1")
    assert (await projection.image(alice, "app")).refs == ("app:1", "app:latest")


async def test_public_images_and_viewers_hands(people: Any, host: Any) -> None:
    with pytest.raises(PermissionDenied, match="busybox is public"):
        await services.remove(await database.read(people.actor, people.alice), "busybox")
    with pytest.raises(PermissionDenied, match="role viewer"):
        await services.tag(await database.read(people.actor, people.victor), "busybox", "x")
    assert host.asked == []


async def test_the_hosts_word_on_names_is_the_last(people: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    event = {"kind": "image.added", "tenant": "acme", "object_id": ID, "seq": 1, "time_ns": 1}
    await database.run(events.apply, {**event, "state": {**RECORD, "refs": ["a:1", "b:1"]}})
    assert (await projection.image(alice, "a:1")).refs == ("a:1", "b:1")
    await database.run(events.apply, {**event, "state": {**RECORD, "refs": ["b:1"]}})
    await database.run(events.apply, {**event, "state": {**RECORD, "refs": ["b:1"]}})
    with pytest.raises(NotFound):
        await projection.image(alice, "a:1")
    await database.run(events.apply, {**event, "kind": "image.removed", "state": {}})
    assert await database.read(Image.everywhere.filter(tenant=people.acme).count) == 0


async def test_a_public_image_that_arrives_is_everybodys_at_once(people: Any) -> None:
    charlie = await database.read(people.actor, people.charlie, people.umbrella)
    with pytest.raises(NotFound):
        await projection.image(charlie, "new")
    event = {
        "kind": "image.added",
        "tenant": "public",
        "object_id": ID,
        "seq": 1,
        "time_ns": 1,
        "state": {**RECORD, "refs": ["new:latest"]},
    }
    await database.run(events.apply, event)
    assert (await projection.image(charlie, "new")).public
