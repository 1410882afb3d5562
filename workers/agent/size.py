"""Op ``size``: how many bytes a container's writable layer holds."""

from __future__ import annotations

from functools import partial
from typing import Any

from engine.engine import Engine
from engine.volumes import layers
from workers.agent.connection import Connection
from workers.agent.walks import Walks


async def size(engine: Engine, walks: Walks, client: Connection, words: dict[str, Any]) -> None:
    spec = engine.spec(words["tenant"], words["id"])
    found = await walks.share(spec.tenant, "container", spec.id, walk=partial(layers.size_bytes, engine.config, spec.id))
    await client.send(b'{"ok":{"bytes":%d}}\n' % found)
