"""The page's websocket: who may open it, and what it tells."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser
from django.test import AsyncClient

from controlpanel.accounts import sessions
from controlpanel.accounts.services import set_active, set_password
from controlpanel.accounts.who import ROOT
from controlpanel.base import database, live
from controlpanel.containers import services
from controlpanel.tenants import groups
from controlpanel.tenants import services as tenants
from controlpanel.tenants.actor import Role, command_line
from controlpanel.tenants.permissions import LABEL
from controlpanel.urls import websocket_urlpatterns
from tests.controlpanel.conftest import ingest

pytestmark = pytest.mark.usefixtures("web", "image")


Socket = ApplicationCommunicator  # channels' own communicator needs a whole second web server


@contextlib.asynccontextmanager
async def opened(user: Any, tenant: str = "acme", language: str = "en", session: Any = None) -> AsyncIterator[Socket]:
    scope = {
        "type": "websocket",
        "path": f"/ws/t/{tenant}/",
        "headers": [],
        "user": user,
        "session": {} if session is None else session,
        "cookies": {"slipway_language": language},
    }
    socket = ApplicationCommunicator(URLRouter(websocket_urlpatterns), scope)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(timeout=5))["type"] == "websocket.accept"
    yield socket
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(timeout=5)


async def said(socket: Socket, kind: str) -> dict[str, Any]:
    """The next message of this kind."""
    while True:
        message: dict[str, Any] = orjson.loads((await socket.receive_output(timeout=5))["text"])
        if message["kind"] == kind:
            return message


async def tell(socket: Socket, text: str) -> None:
    await socket.send_input({"type": "websocket.receive", "text": text})


async def ask(socket: Socket, **words: Any) -> None:
    """Ask, and wait until it was heard: what follows is seen by the watch."""
    await tell(socket, orjson.dumps(words).decode())
    await tell(socket, "nonsense")
    await said(socket, "error")


async def make(people: Any, name: str = "web") -> Any:
    alice = await database.read(people.actor, people.alice)
    return alice, (await services.create_container(alice, {"Image": "busybox", "Cmd": ["x"]}, name=name)).id


@pytest.mark.parametrize(("user", "code"), [("charlie", 4404), ("operator", 4404), (None, 4401)])
async def test_strangers_are_shown_out(people: Any, user: str | None, code: int) -> None:
    async with opened(getattr(people, user) if user else AnonymousUser()) as socket:
        closed = await socket.receive_output(timeout=5)
        assert (closed["type"], closed["code"]) == ("websocket.close", code)


async def test_what_happened_before_the_watch_is_told_as_lost(people: Any, host: Any) -> None:
    seen = live.seen(people.acme.pk)
    async with opened(people.victor) as socket:
        await ask(socket, watch="missed", seen=seen)
        assert await socket.receive_nothing(timeout=0.2), "nothing was missed"
        await make(people)
        await ask(socket, watch="rows")
        await tell(socket, orjson.dumps({"watch": "missed", "seen": seen}).decode())
        assert (await said(socket, "lost"))["kind"] == "lost"


async def test_a_row_comes_in_the_readers_language_and_with_the_readers_buttons(people: Any, host: Any) -> None:
    alice, container_id = await make(people)
    async with opened(people.victor, language="zh-hans") as socket, opened(people.bob) as other:
        await ask(socket, watch="rows")
        await ask(other, watch="rows")
        await services.start_container(alice, "web")
        row = await said(socket, "row")
        while row["state"] != "running":
            row = await said(socket, "row")
        assert row["id"] == container_id and "运行中" in row["html"] and "/stop" not in row["html"]
        row = await said(other, "row")
        while row["state"] != "running":
            row = await said(other, "row")
        assert "/t/acme/containers/web/stop" in row["html"]
        await ingest(host.exited(container_id, 3))
        row = await said(other, "row")
        assert row["state"] == "exited" and "exited (3)" in row["html"]
        await services.remove_container(alice, "web")
        assert (await said(other, "gone"))["id"] == container_id


async def test_a_containers_page_hears_of_its_own_only(people: Any, host: Any) -> None:
    alice, first = await make(people, "first")
    _alice, second = await make(people, "second")
    async with opened(people.bob) as socket:
        await ask(socket, watch="rows", id=second)
        await services.start_container(alice, first)
        await services.start_container(alice, second)
        row = await said(socket, "row")
        assert row["id"] == second and "html" not in row


async def test_changes_are_told_together_and_by_kind(people: Any, host: Any) -> None:
    alice, _id = await make(people)
    async with opened(people.bob) as socket:
        await ask(socket, watch="changes", kinds=["operation", "wrong"])
        for _ in range(3):
            await services.start_container(alice, "web")
        assert await said(socket, "changed") == {"kind": "changed", "what": "operation"}


async def test_who_is_a_member_no_more_is_shown_out_at_once(people: Any, host: Any) -> None:
    alice = await database.read(people.actor, people.alice)
    async with opened(people.bob) as socket:
        await ask(socket, watch="rows")
        await database.run(tenants.remove_member, alice, people.bob)
        assert (await socket.receive_output(timeout=5))["type"] == "websocket.close"


async def test_who_may_less_is_shown_out_and_who_may_more_goes_on(people: Any, host: Any) -> None:
    alice, first = await make(people)
    async with opened(people.bob) as socket:
        await ask(socket, watch="rows")
        await database.run(tenants.add_member, alice, people.bob, Role.ADMIN)
        await services.start_container(alice, "web")
        assert (await said(socket, "row"))["id"] == first
        await database.run(tenants.add_member, alice, people.bob, Role.VIEWER)
        while (heard := await socket.receive_output(timeout=5))["type"] != "websocket.close":
            pass
        assert heard["code"] == 4404


async def test_another_projects_container_is_not_told_of_in_any_way(people: Any, host: Any) -> None:
    alice, _id = await make(people)
    root = command_line(people.acme)
    await database.run(lambda: groups.grant(root, "developer", user="charlie", project="mine"))
    mine = await services.create_container(alice, {"Image": "busybox", "Labels": {LABEL: "mine"}}, name="mine")
    async with opened(people.charlie) as socket:
        await ask(socket, watch="rows")
        await services.rename_container(alice, "web", "renamed")
        await services.remove_container(alice, "renamed")
        await services.start_container(alice, "mine")
        heard = orjson.loads((await socket.receive_output(timeout=5))["text"])
        assert (heard["kind"], heard["id"]) == ("row", mine.id)


async def test_whose_session_ends_is_shown_out_at_once_and_nobody_else(people: Any, host: Any) -> None:
    browsers = [AsyncClient() for _ in range(3)]
    for browser, user in zip(browsers, (people.bob, people.bob, people.alice), strict=True):
        await browser.aforce_login(user)
        await browser.get("/t/acme/settings/members")  # which puts it on the list
    [first, second, alices] = [await browser.asession() for browser in browsers]
    for session in (first, second, alices):
        await session.aget("")  # reads it, as looking for the user does
    async with (
        opened(people.bob, session=first) as ended,
        opened(people.bob, session=second) as other,
        opened(people.alice, session=alices) as another,
    ):
        for socket in (ended, other, another):
            await ask(socket, watch="rows")
        await database.run(sessions.end_sessions, ROOT, people.bob, keep=second.session_key)
        closed = await ended.receive_output(timeout=5)
        assert (closed["type"], closed["code"]) == ("websocket.close", 4401)
        assert await other.receive_nothing(timeout=0.2) and await another.receive_nothing(timeout=0.01)
        await database.run(set_password, ROOT, people.bob)
        assert (await other.receive_output(timeout=5))["code"] == 4401


async def test_another_tenants_container_has_no_log_here(people: Any, host: Any) -> None:
    _alice, container_id = await make(people)
    async with opened(people.charlie, tenant="umbrella") as socket:
        await tell(socket, orjson.dumps({"watch": "log", "id": container_id}).decode())
        assert (await said(socket, "error"))["message"] == f"No such container: {container_id}"


async def test_a_disabled_user_is_shown_out_and_hears_no_more(people: Any, host: Any) -> None:
    """Also where the browser does not answer the close."""
    await make(people, "web")
    async with opened(people.bob) as socket:
        await ask(socket, watch="rows")
        await database.run(lambda: set_active(command_line(), people.bob, active=False))
        closed = await socket.receive_output(timeout=5)
        assert (closed["type"], closed["code"]) == ("websocket.close", 4404)
        await tell(socket, '{"watch": "rows"}')
        await make(people, "other")
        assert await socket.receive_nothing(timeout=0.2)
