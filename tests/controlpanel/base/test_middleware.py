"""Around every page: the content security policy, refusals in the right shape, the user's language."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils import translation

from controlpanel.base import middleware
from engine.errors import NotFound, PermissionDenied, Unauthenticated


def policy(view: Any) -> str:
    return str(middleware.content_security_policy(view)(RequestFactory().get("/")).headers["Content-Security-Policy"])


def test_only_our_own_scripts_run_and_nothing_is_inline() -> None:
    said = policy(lambda request: HttpResponse("x"))
    assert "script-src 'self';" in said and "default-src 'none'" in said
    assert "unsafe" not in said and "nonce" not in said


def test_a_page_that_asks_for_a_nonce_gets_it_in_style_src_alone() -> None:
    seen: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(str(request.csp_nonce))  # type: ignore[attr-defined]
        return HttpResponse("x")

    said = policy(view)
    assert f"style-src 'self' 'nonce-{seen[0]}';" in said and "script-src 'self';" in said
    assert f"'nonce-{seen[0]}'" not in policy(view)


async def test_asynchronous_views_stay_asynchronous() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("x")

    response = await middleware.content_security_policy(view)(RequestFactory().get("/"))
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]


def refuse(path: str, error: Exception) -> Any:
    return middleware.EngineErrors(lambda request: HttpResponse()).process_exception(RequestFactory().get(path), error)


def test_rest_refusals_are_json_with_a_stable_code() -> None:
    response = refuse("/api/v1/containers", NotFound("No such container: x"))
    assert response.status_code == 404
    assert json.loads(response.content) == {"error": {"code": "not_found", "message": "No such container: x", "detail": {}}}
    assert refuse("/api/v1/containers", Unauthenticated("who?")).headers["WWW-Authenticate"] == "Bearer"


def test_other_mistakes_are_not_swallowed() -> None:
    assert refuse("/", ValueError("ours")) is None


@pytest.mark.parametrize(("cookie", "language"), [("", "zh-hans"), ("en", "en")])
def test_the_accounts_language_counts_unless_this_browser_chose(cookie: str, language: str) -> None:
    request = RequestFactory().get("/")
    request.COOKIES["slipway_session"] = "x"
    if cookie:
        request.COOKIES["slipway_language"] = cookie
    request.user = SimpleNamespace(language="zh-hans")  # type: ignore[assignment]
    with translation.override("en"):
        seen: list[str | None] = []
        middleware.user_language(lambda request: seen.append(translation.get_language()) or HttpResponse())(request)
    assert seen == [language]


def test_a_page_says_who_may(people: Any, client: Any) -> None:
    response = refuse("/t/acme/", PermissionDenied("role viewer may not do container.start"))
    assert response.status_code == 403 and b"role viewer may not do container.start" in response.content
