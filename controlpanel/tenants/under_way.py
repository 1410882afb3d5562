"""Requests under way, by the credential that they rest on: when its rights end or shrink, so do they, within a second.

    message "access" ─▶ whose are concerned? ─▶ each credential is looked at again ─▶ cut, as if the client had left
    message "logout" ─▶ which came with a cookie of that user's? ─▶ each session is looked for ─▶ the same

An answer that has not begun may still be given: an act that was allowed when it began is done. What has begun is a stream: it is cut
short, never ended as if it were whole. Websockets look after themselves (dashboard/consumers.py). Following costs a request 1 µs, or
5 where the credential ends by itself [m].
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from django.http import HttpRequest
from django.utils import timezone

from controlpanel.accounts.models import User
from controlpanel.accounts.sessions import LOGOUT, is_alive
from controlpanel.base import database, live
from controlpanel.tenants import access
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import loses
from engine.errors import EngineError

log = logging.getLogger(__name__)

PATIENCE_S: Final = 0.5  # for answers that have not begun
_AGAIN_S: Final = 0.2  # a database that does not answer is asked again so soon,
_TIMES: Final = 20  # and so often; then nobody is believed

_open: dict[tuple[str, ...], set[_Request]] = {}  # by credential
_asking: set[asyncio.Task[None]] = set()


T = TypeVar("T")


class Login(NamedTuple):
    """Who is logged in, and in which session: where that is the operator of a visit, the actor is somebody else."""

    user: User
    session_key: str | None


class _Request:
    __slots__ = ("actor", "cut", "end", "login")

    def __init__(self, actor: Actor, cut: Callable[[float], None], login: Login | None) -> None:
        self.actor = actor
        self.cut = cut
        self.login = login
        self.end: asyncio.TimerHandle | None = None


def follow(scope: Mapping[str, Any], actor: Actor, login: Login | None = None) -> None:
    """From now on the request of this ASGI scope ends with the actor's rights, and with the session that it came with. To be called
    when it is known who asks."""
    server = scope.get("extensions", {}).get("http.hijack")
    if server is None or "cut" not in server or not actor.credential:
        return  # not through our server: a test's client
    request = _Request(actor, server["cut"], login)
    _open.setdefault(actor.credential, set()).add(request)
    if actor.ends_at is not None:
        left_s = (actor.ends_at - timezone.now()).total_seconds()
        request.end = asyncio.get_running_loop().call_later(max(0.0, left_s), request.cut, PATIENCE_S)
    server["ended"](lambda: _forget(request))


def scope_of(request: HttpRequest) -> Mapping[str, Any]:
    """The ASGI scope; nothing where the panel is served otherwise."""
    found: Mapping[str, Any] = getattr(request, "scope", {})
    return found


def _forget(request: _Request) -> None:
    if request.end is not None:
        request.end.cancel()
    requests = _open[request.actor.credential]
    requests.discard(request)
    if not requests:
        del _open[request.actor.credential]


def _changed(message: live.Message, _row: Any) -> None:
    """The feed is not held up: databases may be slow."""
    of = message.get("of") or (message.get("id") if message["kind"] == "tenant" else None)
    for credential, requests in tuple(_open.items()):
        actor = next(iter(requests)).actor
        if of in (None, actor.tenant_number):
            _aside(_look_again(credential, actor))


def _logged_out(message: live.Message, _row: Any) -> None:
    logins = {request.login for requests in _open.values() for request in requests if request.login is not None}
    for login in logins:
        if message.get("user", login.user.pk) == login.user.pk:
            _aside(_look_for(login))


def _aside(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    _asking.add(task)
    task.add_done_callback(_asking.discard)


async def _look_again(credential: tuple[str, ...], actor: Actor) -> None:
    found = await _answer(lambda: access.again(actor), actor.label)
    for request in tuple(_open.get(credential, ())):
        if found is None or loses(request.actor, found):
            request.cut(PATIENCE_S)


async def _look_for(login: Login) -> None:
    if not await _answer(lambda: database.read(is_alive, login.session_key, login.user), login.user.username):
        for request in [request for requests in _open.values() for request in requests if request.login == login]:
            request.cut(PATIENCE_S)


async def _answer(ask: Callable[[], Awaitable[T]], whose: str) -> T | None:
    """None when it counts no more, and when the database says nothing for long."""
    for _ in range(_TIMES):
        try:
            return await ask()
        except EngineError:
            return None
        except Exception as error:
            log.warning("whether %s may go on could not be looked up: %s", whose, error)
            await asyncio.sleep(_AGAIN_S)
    return None


live.on("access", _changed)
live.on("tenant", _changed)
live.on("gap", _changed)
live.on(LOGOUT, _logged_out)
live.on("gap", _logged_out)
