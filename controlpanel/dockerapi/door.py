"""Who is calling: SO_PEERCRED on a tenant's socket, a bearer token on HTTP and TLS, a client's certificate on TLS. Cookies count for
nothing here (same origin: CSRF)."""

from __future__ import annotations

from typing import Any

from controlpanel.audit.services import Named
from controlpanel.base import database
from controlpanel.base.transport import came_from
from controlpanel.tenants import access, refusals
from controlpanel.tenants.actor import Actor, Door
from controlpanel.tenants.queries import tenant_named
from engine.errors import PermissionDenied, Unauthenticated

_TENANT = "tenant-"


async def admit(scope: dict[str, Any]) -> Actor:
    """Raises Unauthenticated, or PermissionDenied for a unix user who is no member."""
    caller = scope["extensions"]["http.hijack"]
    listener, peer = caller["listener"], caller["peer"]
    if peer is not None and listener.startswith(_TENANT):
        name, uid = listener[len(_TENANT) :], peer["uid"]
        try:
            return await access.actor_for_uid(name, uid, pid=peer["pid"])
        except PermissionDenied as error:
            tenant = await database.read(tenant_named, name)
            who = Named(tenant.pk, f"uid {uid}", f"uid {uid}", Door.SOCKET.value)
            await refusals.tell_of(who, "tenant.view", scope["path"], error)
            raise
    address = came_from(scope)
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, secret = value.decode("latin-1").partition(" ")
            if kind.lower() == "bearer" and secret:
                return await access.actor_for_token(secret.strip(), address=address)
    digest = access.shown_certificate(scope)
    if digest is not None:
        return await access.actor_for_certificate(digest, address=address)
    raise Unauthenticated(
        "authentication required: send 'Authorization: Bearer TOKEN' (./manage.py token create), use a context with a client's "
        "certificate (./manage.py context export), or the tenant's unix socket"
    )
