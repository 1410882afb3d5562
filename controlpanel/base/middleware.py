"""Between Django and the browser: the content security policy, the user's language, refusals as pages or JSON."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.template import TemplateDoesNotExist
from django.utils import translation
from django.utils.decorators import sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from controlpanel.base import errors as http
from controlpanel.base import rest
from engine.errors import EngineError

GetResponse = Callable[[HttpRequest], Any]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{nonce}; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@sync_and_async_middleware
def content_security_policy(get_response: GetResponse) -> GetResponse:
    """Only our own files run. A page whose widget injects styles (xterm.js) asks for ``request.csp_nonce`` and gets one."""

    def prepare(request: HttpRequest) -> list[str]:
        used: list[str] = []

        def nonce() -> str:
            used.append(secrets.token_urlsafe(16))
            return used[0]

        request.csp_nonce = SimpleLazyObject(nonce)  # type: ignore[attr-defined]
        return used

    def mark(response: HttpResponseBase, used: list[str]) -> HttpResponseBase:
        response.headers.setdefault("Content-Security-Policy", _POLICY.format(nonce=f" 'nonce-{used[0]}'" if used else ""))
        return response

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        used = prepare(request)
        return mark(await get_response(request), used)

    def answer(request: HttpRequest) -> HttpResponseBase:
        used = prepare(request)
        return mark(get_response(request), used)

    return answer_async if iscoroutinefunction(get_response) else answer


@sync_and_async_middleware
def user_language(get_response: GetResponse) -> GetResponse:
    """Who chose a language in the account gets it on every machine; the cookie and the browser decide for the rest."""

    def speak(request: HttpRequest, language: str) -> None:
        if language:
            translation.activate(language)
            request.LANGUAGE_CODE = translation.get_language()

    async def answer_async(request: HttpRequest) -> HttpResponseBase:
        if settings.LANGUAGE_COOKIE_NAME not in request.COOKIES and settings.SESSION_COOKIE_NAME in request.COOKIES:
            speak(request, getattr(await request.auser(), "language", ""))
        response: HttpResponseBase = await get_response(request)
        return response

    def answer(request: HttpRequest) -> HttpResponseBase:
        if settings.LANGUAGE_COOKIE_NAME not in request.COOKIES and settings.SESSION_COOKIE_NAME in request.COOKIES:
            speak(request, getattr(request.user, "language", ""))
        response: HttpResponseBase = get_response(request)
        return response

    return answer_async if iscoroutinefunction(get_response) else answer


class EngineErrors(MiddlewareMixin):
    """An EngineError that leaves a view becomes its page (errors/error.html), or JSON below /api/."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, EngineError):
            return None
        status = http.http_status(error)
        if request.path.startswith("/api/"):
            response: HttpResponse = JsonResponse(http.rest_body(error), status=status)
        else:
            try:
                response = render(request, "errors/error.html", {"error": error, "status": status}, status=status)
            except TemplateDoesNotExist:
                response = HttpResponse(error.message, content_type="text/plain; charset=utf-8", status=status)
        for name, value in http.headers(error).items():
            response.headers[name] = value
        return response

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Below /api/ also what never reached a view (a wrong verb, say) is refused in REST's words."""
        if response.status_code < 400 or not request.path.startswith("/api/") or "json" in response.headers.get("Content-Type", ""):
            return response
        refusal = rest.refuse_status(response.status_code, response.reason_phrase)
        if "Allow" in response.headers:
            refusal.headers["Allow"] = response.headers["Allow"]
        return refusal
