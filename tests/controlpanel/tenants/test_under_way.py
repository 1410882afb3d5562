"""Streams by REST and the Docker API, through a real server: they end with the rights that they rest on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import AsyncClient

from controlpanel.accounts import sessions
from controlpanel.accounts.services import set_active
from controlpanel.accounts.who import ROOT
from controlpanel.base import database
from controlpanel.server import listeners
from controlpanel.server.serve import PanelServer, configuration
from controlpanel.tenants import credentials, services, under_way
from controlpanel.tenants.actor import Role, command_line

pytestmark = pytest.mark.usefixtures("web")

IN_TIME_S = 5.0  # a second is promised (tests/flows/test_doors.py); these share a machine with whatever else is tested
DOCKER, REST = "/v1.44/events", "/api/v1/tenants/acme/events"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The panel's; what runs beside it is the fixtures'."""
    from controlpanel.asgi import application

    if scope["type"] != "lifespan":
        await application(scope, receive, send)
        return
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    server = PanelServer(configuration(application))
    sock = listeners.open_http("127.0.0.1:0")
    async with server.running():
        await server.add_listener("http", sock)
        yield sock.getsockname()[1]


class Stream:
    """A request whose answer has begun. ``ends_within`` also says that it was cut, not ended: its last chunk did not come."""

    def __init__(self, port: int, path: str, secret: str = "", *, session: str = "") -> None:
        self._port = port
        who = f"Cookie: {settings.SESSION_COOKIE_NAME}={session}" if session else f"Authorization: Bearer {secret}"
        self._words = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{who}\r\n\r\n".encode()

    async def __aenter__(self) -> Stream:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._words)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ends_within(self, seconds: float) -> bool:
        try:
            return not (await asyncio.wait_for(self._reader.read(), seconds)).endswith(b"0\r\n\r\n")
        except TimeoutError:
            return False


async def token_of(people: Any, user: str, **words: Any) -> tuple[Any, str]:
    actor = await database.read(lambda: command_line(people.acme))
    made: tuple[Any, str] = await database.run(lambda: credentials.create_token(actor, user=getattr(people, user), **words))
    return made


async def root(people: Any, function: Callable[..., Any], *args: Any, **words: Any) -> None:
    await database.run(lambda: function(command_line(people.acme), *args, **words))


ENDS: dict[str, Callable[[Any, Any], Awaitable[None]]] = {
    "token": lambda people, row: root(people, credentials.revoke_token, row.pk),
    "membership": lambda people, _row: root(people, services.remove_member, people.bob),
    "user": lambda people, _row: root(people, set_active, people.bob, active=False),
    "tenant": lambda people, _row: root(people, services.delete_tenant, people.acme),
}


@pytest.mark.parametrize("what", ENDS)
async def test_a_stream_ends_with_what_it_rests_on_and_others_go_on(people: Any, what: str) -> None:
    row, secret = await token_of(people, "bob")
    _other, stays = await token_of(people, "alice")
    async with (
        serving() as port,
        Stream(port, DOCKER, secret) as docker,
        Stream(port, REST, secret) as rest,
        Stream(port, DOCKER, stays) as other,
    ):
        await ENDS[what](people, row)
        assert await docker.ends_within(IN_TIME_S) and await rest.ends_within(IN_TIME_S)
        assert what == "tenant" or not await other.ends_within(0.2)
    assert not under_way._open


async def test_a_lesser_role_ends_what_it_does_not_allow_and_a_greater_one_nothing(people: Any) -> None:
    _row, secret = await token_of(people, "bob", role=Role.DEVELOPER)
    async with serving() as port, Stream(port, DOCKER, secret) as stream:
        await root(people, services.add_member, people.bob, Role.ADMIN)
        assert not await stream.ends_within(0.2)
        await root(people, services.add_member, people.bob, Role.VIEWER)
        assert await stream.ends_within(IN_TIME_S)


async def test_a_stream_ends_when_its_token_does(people: Any) -> None:
    _row, secret = await token_of(people, "bob", lifetime=timedelta(seconds=1))
    async with serving() as port, Stream(port, DOCKER, secret) as stream:
        assert not await stream.ends_within(0.5)
        assert await stream.ends_within(IN_TIME_S)


async def test_a_database_that_is_away_is_asked_again_and_believes_nobody_in_the_end(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream rests on what was known before, for as long as it takes to ask a few times."""
    row, secret = await token_of(people, "bob")
    asked: list[Any] = []

    async def away(actor: Any) -> Any:
        asked.append(actor)
        raise OSError("no database")

    monkeypatch.setattr(under_way.access, "again", away)
    monkeypatch.setattr(under_way, "_AGAIN_S", 0.02)
    async with serving() as port, Stream(port, DOCKER, secret) as stream:
        await root(people, services.add_member, people.victor, Role.VIEWER)
        assert await stream.ends_within(IN_TIME_S)
    assert len(asked) == under_way._TIMES and row.pk


async def test_a_stream_by_cookie_ends_with_its_session_and_with_no_other(people: Any) -> None:
    keys = []
    for user in (people.bob, people.bob, people.alice):
        browser = AsyncClient()
        await browser.aforce_login(user)
        await browser.get("/t/acme/settings/members")  # which puts it on the list
        keys.append(browser.cookies[settings.SESSION_COOKIE_NAME].value)
    async with serving() as port:
        streams = [Stream(port, REST, session=key) for key in keys]
        async with streams[0], streams[1], streams[2]:
            await database.run(lambda: sessions.end_sessions(ROOT, people.bob, keep=keys[1]))
            assert await streams[0].ends_within(IN_TIME_S)
            assert not await streams[1].ends_within(0.2) and not await streams[2].ends_within(0.01)
