"""After REST has said no: the refusal is recorded before the answer leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import async_only_middleware

from controlpanel.tenants import attempts, refusals

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@async_only_middleware
def record_refusals(get_response: GetResponse) -> GetResponse:
    """Pages see to it themselves (tenants.pages): they often answer a refusal with the form that shows it."""

    async def answer(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        if response.status_code == HTTPStatus.FORBIDDEN and request.path.startswith("/api/"):
            attempt = attempts.current()
            await refusals.tell(attempt.error if attempt else None, what=request.path)
        return response

    return answer
