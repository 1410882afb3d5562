"""Each session's last use, for the list of them. Once a minute and session it costs one write; else a look into a dict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from controlpanel.accounts import sessions
from controlpanel.base import database

EACH_S: Final = 60.0
KEPT_MAX: Final = 10_000  # sessions; then all are forgotten

GetResponse = Callable[[HttpRequest], Any]
_told: dict[str, float] = {}


@sync_and_async_middleware
def session_seen(get_response: GetResponse) -> GetResponse:
    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await get_response(request)
        if words := _due(request):
            await database.run(sessions.seen, *words)
        return response

    def answer(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        if words := _due(request):
            sessions.seen(*words)
        return response

    return answer_async if iscoroutinefunction(get_response) else answer


def _due(request: HttpRequest) -> tuple[str, int, str, str] | None:
    """What ``sessions.seen`` wants, when the request used a session of somebody's that was not noted within the last minute."""
    session = request.session
    key = session.session_key
    if not key or not session.accessed or SESSION_KEY not in session or time.monotonic() - _told.get(key, -EACH_S) < EACH_S:
        return None
    if len(_told) >= KEPT_MAX:
        _told.clear()
    _told[key] = time.monotonic()
    return key, int(session[SESSION_KEY]), request.META.get("REMOTE_ADDR", "") or sessions.NOWHERE, request.headers.get("User-Agent", "")
