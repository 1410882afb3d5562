"""The token service's tokens: JSON web tokens (RFC 7519) that this panel signs and nobody else reads. PURE but for the key.

A token says who it was given to (``cred``, a credential that is looked up at each request, so that a right that was taken away is gone
here, too) and for what (``access``), as distribution's token specification has it. One algorithm, one key, one header: a token whose
header is not the very bytes of ours is none, whatever it says of itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import orjson
from django.utils.crypto import salted_hmac

from engine.errors import Unauthenticated

ISSUER: Final = "slipway"
SERVICE: Final = "slipway-registry"  # the audience
REFRESH: Final = "slipway-registry-refresh"  # of tokens that are good for others alone
LIFETIME_S: Final = 300
REFRESH_LIFETIME_S: Final = 30 * 86_400
_MAX: Final = 16 << 10
_CATALOG: Final = ("registry", "catalog")

Scope = tuple[str, str]  # type and name
Access = Mapping[Scope, frozenset[str]]  # → actions


@dataclass(frozen=True, slots=True)
class Claims:
    """``credential``: () of nobody in particular."""

    credential: tuple[str, ...]
    label: str
    access: Access = field(default_factory=dict)

    def allows(self, name: str, action: str) -> bool:
        return action in self.access.get(("repository", name), ())

    @property
    def allows_catalog(self) -> bool:
        return "*" in self.access.get(_CATALOG, ())


def issue(claims: Claims, *, audience: str = SERVICE, lifetime_s: int = LIFETIME_S, now_s: float | None = None) -> str:
    now = int(time.time() if now_s is None else now_s)
    words = {
        "iss": ISSUER,
        "sub": claims.label,
        "aud": audience,
        "exp": now + lifetime_s,
        "nbf": now - 5,  # clocks differ
        "iat": now,
        "jti": secrets.token_hex(12),
        "access": [{"type": kind, "name": name, "actions": sorted(actions)} for (kind, name), actions in claims.access.items()],
        "cred": claims.credential,
    }
    signed = _HEADER + b"." + _encode(orjson.dumps(words))
    return (signed + b"." + _encode(_signature(signed))).decode()


def read(token: str, *, audience: str = SERVICE) -> Claims:
    """Unauthenticated for one that has ended, is for another service, or was not signed here."""
    invalid = Unauthenticated("this token is not valid here, or has ended")
    data = token.encode("ascii", "replace")
    signed, _dot, signature = data.rpartition(b".")
    if len(data) > _MAX or not signed.startswith(_HEADER + b".") or not hmac.compare_digest(_encode(_signature(signed)), signature):
        raise invalid
    words: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(signed[len(_HEADER) + 1 :] + b"=="))
    if words["aud"] != audience or not words["nbf"] <= time.time() < words["exp"]:
        raise invalid
    access = {(each["type"], each["name"]): frozenset(each["actions"]) for each in words["access"]}
    return Claims(tuple(words["cred"]), words["sub"], access)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_HEADER: Final = _encode(b'{"alg":"HS256","typ":"JWT"}')


def _signature(signed: bytes) -> bytes:
    return hmac.digest(_key(), signed, hashlib.sha256)


@cache
def _key() -> bytes:
    """The panel's own, for this use alone."""
    return salted_hmac("controlpanel.registry.tokens", b"", algorithm="sha256").digest()
