"""Op ``size``: how many bytes a container's writable layer holds."""

from __future__ import annotations

import asyncio
from typing import Any

from engine.engine import Engine
from engine.images import snapshots
from workers.agent.connection import Connection


async def size(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    spec = engine.spec(words["tenant"], words["id"])
    found = await asyncio.to_thread(snapshots.size_bytes, engine.config, spec.id)
    await client.send(b'{"ok":{"bytes":%d}}\n' % found)
