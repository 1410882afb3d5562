"""What root of the host grants a tenant: a file there, which the host alone reads and obeys. Here it is shown."""

from __future__ import annotations

from typing import Any

from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.models import Tenant
from engine.errors import EngineError


async def of_tenant(tenant: Tenant) -> dict[str, Any] | None:
    """By the items of a policy, and ``folders`` and ``exports``; None while the host does not answer."""
    try:
        ok, _reader, writer = await open_stream("ceiling", tenant.name, "")
    except (EngineError, OSError):  # OSError: a panel that never ran has no key to sign with
        return None
    writer.close()
    granted: dict[str, Any] = ok["granted"]
    return granted
