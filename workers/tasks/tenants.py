"""Tenants: see the table in workers/contract.py."""

from __future__ import annotations

from typing import Any

from engine import remains
from engine.model.bandwidth import Bandwidth
from engine.model.codec import from_json, to_json
from engine.model.resources import Resources
from workers import contract, host
from workers.operation import Act, task


@task(contract.ENSURE_TENANT)
def ensure(act: Act) -> dict[str, Any]:
    limits, bandwidth, registries = (act.payload.get(word) for word in ("limits", "bandwidth", "registries"))
    tenant = host.engine().ensure_tenant(
        act.payload["tenant"],
        limits=None if limits is None else from_json(Resources, limits),
        force_no_new_privileges=act.payload.get("force_no_new_privileges"),
        bandwidth=None if bandwidth is None else from_json(Bandwidth, bandwidth),
        log_bytes=act.payload.get("log_bytes"),
        registries=None if registries is None else from_json(tuple[str, ...], registries),
    )
    return {"host": to_json(tenant)}


@task(contract.REMOVE_TENANT)
def remove(act: Act) -> dict[str, Any]:
    """With all that lies here of it, also what the panel knows nothing of; and with the proof: what there was, and what is left."""
    engine = host.engine()
    tenant = remains.known(engine, act.payload["tenant"])
    before = remains.look(engine, tenant)
    engine.remove_tenant(tenant.name, with_data=True)
    left = remains.look(engine, tenant)
    return {"before": {kind: len(names) for kind, names in before.items()}, "left": left}
