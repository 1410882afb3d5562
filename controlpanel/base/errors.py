"""EngineError to HTTP: the only place that knows the numbers, for pages, REST, Docker API and websockets alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine import errors

STATUS: Final[Mapping[type[errors.EngineError], int]] = {
    errors.InvalidArgument: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.QuotaExceeded: 403,
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.FailedPrecondition: 409,
    errors.RateLimited: 429,
    errors.Internal: 500,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
}


def http_status(error: errors.EngineError) -> int:
    return STATUS.get(type(error), 500)


def headers(error: errors.EngineError) -> dict[str, str]:
    """What belongs to the refusal beside its status."""
    if isinstance(error, errors.Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.RateLimited):
        return {"Retry-After": str(error.detail.get("retry_after_s", 1))}
    return {}


def rest_body(error: errors.EngineError) -> dict[str, Any]:
    """The body of a REST refusal: ``{"error": {"code", "message", "detail"}}``."""
    return {"error": error.to_json()}
