"""A quota that is nearly used up, told as an event of the tenant: type ``quota``, action ``warning``, the resource as its actor."""

from __future__ import annotations

from controlpanel.events import log
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import Resource


def _warned(tenant_id: int, project: str, resource: Resource, limit: int, used: int) -> None:
    name = Tenant.objects.values_list("name", flat=True).get(pk=tenant_id)
    words = {"name": name, "project": project, "limit": str(limit), "used": str(used)}
    log.write(tenant_id, "quota", "warning", resource.name, words)


ledger.on_warning(_warned)
