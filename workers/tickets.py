"""Tickets: the panel's word to the agent that someone may open a stream. Signed, short-lived, checked without a question.

    <expiry, unix time in hex>.<HMAC-SHA256 in hex over "op\\0tenant\\0id\\0expiry">

The key lies in SLIPWAY_DATA/panel/ticket.key, which the panel's user and root may read. A ticket is worth one kind of stream of
one object for a minute; it opens nothing that its words don't name.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from pathlib import Path
from typing import Final

from engine import errors

LIFETIME_S: Final = 60


def read_key(data: Path) -> bytes:
    """Raises Unavailable when there is none yet: ``up`` makes it."""
    path = data / "panel" / "ticket.key"
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise errors.Unavailable(f"{path}: {error.strerror}; ./manage.py up makes it") from error
    if len(key) < 32:
        raise errors.Unavailable(f"{path} is too short to be a key; remove it and start ./manage.py up again")
    return key


def sign(key: bytes, op: str, tenant: str, object_id: str, *, now: float | None = None) -> str:
    expiry = f"{int((time.time() if now is None else now) + LIFETIME_S):x}"
    return f"{expiry}.{_mac(key, op, tenant, object_id, expiry)}"


def check(key: bytes, ticket: str, op: str, tenant: str, object_id: str, *, now: float | None = None) -> None:
    """Raises PermissionDenied unless ``sign`` made this ticket for these words less than a minute ago."""
    expiry, _, mac = ticket.partition(".")
    if not hmac.compare_digest(mac.encode(), _mac(key, op, tenant, object_id, expiry).encode()):
        raise errors.PermissionDenied("the ticket is not for this")
    if int(expiry, 16) < (time.time() if now is None else now):
        raise errors.PermissionDenied("the ticket is too old: are the clocks of panel and host the same?")


def _mac(key: bytes, op: str, tenant: str, object_id: str, expiry: str) -> str:
    return hmac.new(key, "\0".join((op, tenant, object_id, expiry)).encode(), hashlib.sha256).hexdigest()
