"""What every REST router shares: orjson, errors in one shape, bodies that must be understood wholly.

    {"error": {"code": "not_found", "message": "No such container: x", "detail": {}}}

``code`` is one of engine.errors', whatever went wrong where; the numbers are in base/errors.py.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.renderers import BaseRenderer
from pydantic import ConfigDict

from controlpanel.base.errors import STATUS, headers, http_status, rest_body
from engine import errors

log = logging.getLogger(__name__)

_BY_STATUS: Final[Mapping[int, type[errors.EngineError]]] = {
    **{number: kind for kind, number in reversed(STATUS.items())},
    405: errors.Unsupported,
}


class Asked(Schema):
    """A request's body. A member nobody knows is refused: what is accepted is done. JSON has no word for infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ErrorWords(Schema):
    code: str
    message: str
    detail: dict[str, Any]


class Refusal(Schema):
    """Every answer of 400 and more."""

    error: ErrorWords


class Orjson(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:
        return orjson.dumps(data)


def lines(chunks: AsyncIterator[bytes]) -> StreamingHttpResponse:
    """JSON values, one a line, as they come."""
    response = StreamingHttpResponse(chunks, content_type="application/x-ndjson")
    response.headers["Cache-Control"] = "no-store"
    return response


def refuse(error: errors.EngineError) -> HttpResponse:
    kind = "application/json; charset=utf-8"
    return HttpResponse(orjson.dumps(rest_body(error)), status=http_status(error), content_type=kind, headers=headers(error))


def refuse_status(status: int, message: str) -> HttpResponse:
    """For what never reached a view of ours: a wrong verb, a body that is no JSON."""
    kind = _BY_STATUS.get(status, errors.Internal if status >= 500 else errors.InvalidArgument)
    response = refuse(kind(message))
    response.status_code = status
    return response


def prepare(api: NinjaAPI) -> None:
    """Exceptions → answers."""
    api.add_exception_handler(errors.EngineError, lambda _request, error: refuse(error))
    api.add_exception_handler(AuthenticationError, lambda _request, _error: refuse(_UNAUTHENTICATED))
    api.add_exception_handler(HttpError, lambda _request, error: refuse_status(error.status_code, str(error)))
    api.add_exception_handler(Http404, lambda _request, _error: refuse(errors.NotFound("there is nothing at this address")))
    api.add_exception_handler(ValidationError, lambda _request, error: refuse(_invalid(error)))
    api.add_exception_handler(RequestDataTooBig, lambda _request, _error: refuse_status(413, "the body is too large"))
    api.add_exception_handler(ConnectionResetError, lambda _request, _error: refuse_status(400, "the body ended too early"))
    api.add_exception_handler(Exception, _failed)


_UNAUTHENTICATED: Final = errors.Unauthenticated("log in, or send Authorization: Bearer TOKEN")


def _invalid(error: ValidationError) -> errors.InvalidArgument:
    """pydantic's findings as one sentence; the list in ``detail``."""
    findings = [{"field": _field(item["loc"]), "problem": item["msg"]} for item in error.errors]
    return errors.InvalidArgument("; ".join(f"{item['field']}: {item['problem']}" for item in findings), fields=findings)


def _field(place: tuple[Any, ...]) -> str:
    """("body", "payload", "env", 2) → "env.2": without where it stood and what we call it."""
    words = [str(part) for part in place]
    return ".".join(words[2:] if words[0] == "body" and len(words) > 2 else words[1:]) or words[0]


def _failed(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("%s %s", request.method, request.path, exc_info=error)
    return refuse(errors.Internal("an error of Slipway itself; the log of the web process has it (./manage.py logs web)"))
