"""Op ``spec``: a container's record, for a panel that lost its row."""

from __future__ import annotations

import json
from typing import Any

from engine import errors
from engine.engine import Engine
from engine.model.codec import to_json
from workers.agent.connection import Connection


async def spec(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    """NotFound also for what no panel made: root's own containers (``python3 -m engine``) are none of its business."""
    found = engine.spec(words["tenant"], words["id"])
    if not found.shown:
        raise errors.NotFound(f"No such container: {found.id}")
    answer = {"spec": to_json(found), "state": to_json(engine.state(found.tenant, found.id))}
    await client.send(json.dumps({"ok": answer}, separators=(",", ":")).encode() + b"\n")
