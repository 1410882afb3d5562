"""Ops ``volume`` and ``volume_usage``: what the host alone knows of one, and how many bytes all of a tenant's hold."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final

from engine import snapshots
from engine.engine import Engine
from workers.agent.connection import Connection
from workers.agent.walks import Walks

KEPT_S: Final = 2.0  # what all of a tenant's hold together


async def usage(engine: Engine, walks: Walks, client: Connection, words: dict[str, Any]) -> None:
    tenant = words["tenant"]
    names = engine.volumes.names(tenant)  # others by now are another question
    found = await walks.share(tenant, "volumes", *names, walk=partial(engine.volumes.usage, tenant), kept_s=KEPT_S)
    await client.send(json.dumps({"ok": {"volumes": found}}, separators=(",", ":")).encode() + b"\n")


async def one(engine: Engine, walks: Walks, client: Connection, words: dict[str, Any]) -> None:
    tenant, name = words["tenant"], words["id"]
    spec = engine.volumes.get(tenant, name)
    size = await walks.share(tenant, "volume", name, str(spec.created_ns), walk=partial(engine.volumes.size, tenant, name))
    found = {"bytes": size, "snapshots": snapshots.of(engine, tenant, name)}
    await client.send(json.dumps({"ok": found}, separators=(",", ":")).encode() + b"\n")
