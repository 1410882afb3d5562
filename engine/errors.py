"""What can go wrong, in containerd's vocabulary.

    EngineError
    ├── InvalidArgument      the caller's words are wrong
    ├── Unauthenticated      who are you?
    ├── PermissionDenied     you may not: role or policy
    ├── NotFound             no such object, or another tenant's
    ├── AlreadyExists        the name is taken
    ├── FailedPrecondition   not in this state (running, in use, …)
    ├── QuotaExceeded        the tenant's limit
    ├── RateLimited          too often
    ├── Unsupported          we do not do that (yet), said plainly
    ├── Unavailable          a part is down; try again
    └── Internal             our fault

Each has a stable ``code``; clients switch on it, never on the English text. The HTTP numbers live in
controlpanel/base/errors.py alone. Errors cross processes as ``{"code", "message", "detail"}``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EngineError(Exception):
    """Base of all. ``message`` is for people and says who can fix it; ``detail`` is for programs."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **detail: Any) -> None:
        """A name that it repeats may be half a surrogate pair, which JSON can write and UTF-8 cannot."""
        self.message = message.encode(errors="backslashreplace").decode()
        super().__init__(self.message)
        self.detail = detail

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "detail": self.detail}


class InvalidArgument(EngineError):
    code = "invalid_argument"


class Unauthenticated(EngineError):
    code = "unauthenticated"


class PermissionDenied(EngineError):
    code = "permission_denied"


class NotFound(EngineError):
    code = "not_found"


class AlreadyExists(EngineError):
    code = "already_exists"


class FailedPrecondition(EngineError):
    code = "failed_precondition"


class QuotaExceeded(EngineError):
    code = "quota_exceeded"


class RateLimited(EngineError):
    code = "rate_limited"


class Unsupported(EngineError):
    code = "unsupported"


class Unavailable(EngineError):
    code = "unavailable"


class Internal(EngineError):
    code = "internal"


_BY_CODE: dict[str, type[EngineError]] = {kind.code: kind for kind in EngineError.__subclasses__()}


def from_json(data: dict[str, Any]) -> EngineError:
    """The error that ``to_json`` wrote; an unknown code becomes Internal."""
    kind = _BY_CODE.get(str(data.get("code")), Internal)
    return kind(str(data.get("message", "")), **dict(data.get("detail") or {}))
