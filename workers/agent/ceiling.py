"""Op ``ceiling``: what root of this host grants a tenant, for the panel to show beside its policy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from engine import ceilings
from engine.engine import Engine
from workers.agent.connection import Connection


async def granted(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    found = await asyncio.to_thread(ceilings.read, engine.config, words["tenant"])
    await client.send(json.dumps({"ok": {"granted": ceilings.granted(found)}}).encode() + b"\n")
