"""Op ``top``: the processes of a container by ps(1)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from engine.engine import Engine
from engine.model.codec import to_json
from workers.agent.connection import Connection
from workers.agent.words import text


async def top(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    found = await asyncio.to_thread(engine.top, words["tenant"], words["id"], text(words, "options"))
    await client.send(json.dumps({"ok": to_json(found)}, separators=(",", ":")).encode() + b"\n")
