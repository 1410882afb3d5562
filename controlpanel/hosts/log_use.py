"""How many bytes of log a tenant's containers have on the disk: only the host can tell."""

from __future__ import annotations

from dataclasses import replace

from controlpanel.base import database
from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import LOGS, Use
from engine.errors import EngineError


async def of_tenant(tenant: Tenant) -> int:
    """As they lie there now. Unavailable while the host does not answer."""
    ok, _reader, writer = await open_stream("log_use", tenant.name, "")
    writer.close()
    return sum(ok["containers"].values())


async def with_logs(tenant: Tenant) -> list[Use]:
    """What the tenant uses of everything; of logs None while the host does not answer."""
    uses = await database.read(ledger.use_of_tenant, tenant)
    try:
        used = await of_tenant(tenant)
    except (EngineError, OSError):  # OSError: a panel that never ran has no key to sign with
        return uses
    return [replace(use, used=used) if use.resource.name == LOGS else use for use in uses]
