"""What the registry answers when it refuses: the specification's codes, each with the status that it has everywhere.

    {"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": {"digest": "sha256:…"}}]}

Whatever the rest of the panel raises (engine.errors) is translated here, in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from controlpanel.base.errors import headers, http_status
from engine import errors

_WORDS: Final[Mapping[str, tuple[int, str]]] = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (400, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DENIED": (403, "requested access to the resource is denied"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (400, "manifest references a manifest or blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown to registry"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "UNAUTHORIZED": (401, "authentication required"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
    "TOOMANYREQUESTS": (429, "too many requests"),
    "UNAVAILABLE": (503, "service unavailable"),
    "UNKNOWN": (500, "unknown error"),
}
_CODES: Final[Mapping[type[errors.EngineError], str]] = {
    errors.Unauthenticated: "UNAUTHORIZED",
    errors.PermissionDenied: "DENIED",
    errors.QuotaExceeded: "DENIED",
    errors.NotFound: "NAME_UNKNOWN",
    errors.RateLimited: "TOOMANYREQUESTS",
    errors.Unsupported: "UNSUPPORTED",
    errors.Unavailable: "UNAVAILABLE",
}


class Refused(Exception):
    """``code`` is a key of _WORDS; ``status`` and ``message`` are its own unless told otherwise."""

    def __init__(self, code: str, message: str = "", *, status: int = 0, headers: Mapping[str, str] | None = None, **detail: Any) -> None:
        usual, words = _WORDS[code]
        super().__init__(message or words)
        self.code = code
        self.message = message or words
        self.status = status or usual
        self.headers = dict(headers or {})
        self.detail = detail

    @property
    def body(self) -> bytes:
        words: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail:
            words["detail"] = self.detail
        return orjson.dumps({"errors": [words]})


def rest(error: Refused) -> errors.EngineError:
    """The same for who asks by REST or on a page."""
    kind = {403: errors.PermissionDenied, 404: errors.NotFound}.get(error.status, errors.InvalidArgument)
    return kind(error.message, **error.detail)


def refused(error: errors.EngineError) -> Refused:
    """The same in the registry's words. 401s get their challenge from who knows what was asked for."""
    code = _CODES.get(type(error), "UNKNOWN")
    said = {} if isinstance(error, errors.Unauthenticated) else headers(error)
    return Refused(code, error.message, status=http_status(error), headers=said, **error.detail)
