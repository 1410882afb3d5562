"""Tenants: see the table in workers/contract.py."""

from __future__ import annotations

from typing import Any

from engine.model.codec import from_json, to_json
from engine.model.resources import Resources
from workers import contract, host
from workers.operation import Act, task


@task(contract.ENSURE_TENANT)
def ensure(act: Act) -> dict[str, Any]:
    limits = act.payload.get("limits")
    tenant = host.engine().ensure_tenant(
        act.payload["tenant"],
        limits=None if limits is None else from_json(Resources, limits),
        force_no_new_privileges=act.payload.get("force_no_new_privileges"),
    )
    return {"host": to_json(tenant)}


@task(contract.REMOVE_TENANT)
def remove(act: Act) -> dict[str, Any]:
    host.engine().remove_tenant(act.payload["tenant"])
    return {}
