"""Ops ``search`` and ``log_use``: a regular expression over the logs of a tenant's containers, and how much they take."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from engine import log_use
from engine.engine import Engine
from engine.errors import InvalidArgument
from engine.runtime.log_grep import Done, Match, Query, Search
from workers.agent.connection import Connection
from workers.agent.follow import check_kept
from workers.agent.words import integer, text

AT_ONCE: Final = 2  # searches of one tenant; the next ones wait
SECONDS: Final = 5.0

_turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))


async def search(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    """``ids``: containers of the tenant. Refused as a whole when one of them is not, or keeps no log."""
    tenant, ids = words["tenant"], words.get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(number, str) for number in ids):
        raise InvalidArgument("ids must be a list of container ids")
    logs: dict[str, Path] = {}
    for number in ids:
        spec = engine.spec(tenant, number)
        check_kept(spec)
        logs[spec.id] = engine.config.container(spec.id) / "log"
    query = Query(
        pattern=text(words, "pattern"),
        ignore_case=bool(words.get("ignore_case")),
        stdout=bool(words.get("stdout", True)),
        stderr=bool(words.get("stderr", True)),
        since_ns=integer(words, "since_ns", 0),
        until_ns=integer(words, "until_ns", 0),
        limit=integer(words, "limit", 1000),
        seconds=SECONDS,
    )
    async with _turns[tenant]:
        matches, done = await asyncio.to_thread(_find, logs, query)
    rows = [b'{"ok":{}}', *(_row(asdict(match)) for match in matches), _row({"done": asdict(done)})]
    await client.send(b"\n".join(rows) + b"\n")


def _find(logs: dict[str, Path], query: Query) -> tuple[list[Match], Done]:
    with Search(logs, query) as found:
        matches = list(found)
    assert found.done is not None
    return matches, found.done


async def use(engine: Engine, client: Connection, words: dict[str, Any]) -> None:
    """{"containers": {id: bytes}} of the tenant."""
    found = await asyncio.to_thread(log_use.log_bytes, engine.config, words["tenant"])
    await client.send(_row({"ok": {"containers": found}}) + b"\n")


def _row(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()
