"""Who is calling: SO_PEERCRED on a tenant's socket, a bearer token on HTTP. Cookies count for nothing here (same origin: CSRF)."""

from __future__ import annotations

from typing import Any

from controlpanel.tenants import access
from controlpanel.tenants.actor import Actor
from engine.errors import Unauthenticated

_TENANT = "tenant-"


async def admit(scope: dict[str, Any]) -> Actor:
    """Raises Unauthenticated, or PermissionDenied for a unix user who is no member."""
    caller = scope["extensions"]["http.hijack"]
    listener, peer = caller["listener"], caller["peer"]
    if peer is not None and listener.startswith(_TENANT):
        return await access.actor_for_uid(listener[len(_TENANT) :], peer["uid"], pid=peer["pid"])
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, secret = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer" and secret:
                client = scope.get("client")
                return await access.actor_for_token(secret.strip(), address=client[0] if client else "")
    raise Unauthenticated(
        "authentication required: send 'Authorization: Bearer TOKEN' (./manage.py token create), or use the tenant's unix socket"
    )
