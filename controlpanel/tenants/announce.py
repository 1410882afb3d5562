"""Telling the web processes that tenants came or went, so that they open or close their sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from controlpanel.base import live
from controlpanel.tenants.models import Tenant

_listeners: set[Callable[[], None]] = set()


def tenant_changed(tenant: Tenant, action: str) -> None:
    """To be called in the transaction that makes, changes or deletes the tenant; told after its commit."""
    live.on_commit({"kind": "tenant", "tenant": live.EVERYONE, "id": tenant.pk, "name": tenant.name, "action": action})


async def listen(changed: Callable[[], None]) -> None:
    """Call ``changed`` whenever a tenant came, changed or went, until cancelled."""
    _listeners.add(changed)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        _listeners.discard(changed)


def _heard(_message: live.Message, _row: Any) -> None:
    for changed in tuple(_listeners):
        changed()


live.on("tenant", _heard)
live.on("gap", _heard)
