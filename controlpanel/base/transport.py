"""How a request came: from which address, and whether by TLS. One process serves plain HTTP on loopback and TLS side by side.

With SLIPWAY_PROXY the only way in is a proxy of the operator's, which writes X-Forwarded-For and X-Forwarded-Proto itself: the client is
then what the proxy says, in limits, sessions and the audit log.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

GetResponse = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def transport(get_response: GetResponse) -> GetResponse:
    """The outermost: it sees the request first and every cookie last."""

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        _come_from(request)
        return _guarded(request, await get_response(request))

    def answer(request: HttpRequest) -> HttpResponseBase:
        _come_from(request)
        return _guarded(request, get_response(request))

    return answer_async if iscoroutinefunction(get_response) else answer


def _come_from(request: HttpRequest) -> None:
    if address := _forwarded(request.headers.get("X-Forwarded-For", "")):
        request.META["REMOTE_ADDR"] = address


def came_from(scope: Mapping[str, Any]) -> str:
    """The client's address, for who answers beside Django."""
    words = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    client = scope.get("client")
    return _forwarded(words) or (client[0] if client else "")


def came_by_tls(scope: Mapping[str, Any]) -> bool:
    if settings.BEHIND_PROXY:
        return (b"x-forwarded-proto", b"https") in scope["headers"]
    return bool(scope.get("scheme") == "https")


def _forwarded(words: str) -> str:
    """The last address in X-Forwarded-For is the one that our proxy saw; those before it are the client's own words. "" without a proxy."""
    if not settings.BEHIND_PROXY:
        return ""
    try:
        return str(ipaddress.ip_address(words.rpartition(",")[2].strip()))
    except ValueError:
        return ""  # not by the proxy: its own health check


def _guarded(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """A cookie that was made over TLS never leaves by plain HTTP."""
    if request.is_secure():
        for cookie in response.cookies.values():
            cookie["secure"] = True
    return response
