"""An agent that speaks the contract of workers/contract.py and does nothing: for the panel's side of byte streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

RECORD: Final = {
    "id": "sha256:" + "12" * 32,
    "config": {"config": {"Cmd": ["sh"]}, "os": "linux", "architecture": "amd64"},
    "diff_ids": ["sha256:" + "34" * 32],
    "chain_ids": ["34" * 32],
    "size_bytes": 3_000_000,
    "created": "2026-01-01T00:00:00Z",
}
_IMAGES: Final = {"images": [{"refs": ["app:1"], "record": RECORD}]}
_MOVED: Final = {**_IMAGES, "digest": "sha256:" + "56" * 32, "ref": "app:1"}
_OK: Final[dict[str, dict[str, Any]]] = {
    "login": {"identity_token": ""},
    "log_use": {"containers": {}},
    "ceiling": {
        "granted": {
            "privileged": False,
            "host_network": True,
            "seccomp": False,
            "capabilities": ["all"],
            "devices": ["/dev/fuse"],
            "registries": ["all"],
            "ports": ["all"],
            "addresses": ["all"],
            "folders": ["/srv/data:ro"],
            "exports": [],
        },
    },
    "build_prune": {"caches": ["a"], "bytes": 1},
    "size": {"bytes": 1},
    "exec": {"pid": 5},
    "attach": {"tty": False},
    "archive_get": {"stat": {}},
    "archive_stat": {"stat": {"name": "x", "size": 1, "mode": 0o644, "mtime": "2026-01-01T00:00:00Z", "linkTarget": ""}},
    "volume": {"bytes": 0, "snapshots": {}},
}
_LINES: Final[dict[str, dict[str, Any]]] = {
    "load": _IMAGES,
    "import": _IMAGES,
    "pull": _MOVED,
    "push": _MOVED,
    "build": {"built": {"refs": ["app:1"], "record": RECORD}},
    "commit": {"done": {"image": {"record": RECORD, "refs": []}}},
    "archive_put": {"done": {}},
    "put": {"done": {}},
}
_SENT: Final = ("load", "import", "build", "archive_put", "put")  # with a body, which ends before the answer


@asynccontextmanager
async def speaking(run: Path, data: Path) -> AsyncIterator[None]:
    """At ``run``/agent.sock; the key of the tickets, which this agent does not look at, is made when there is none."""
    key = data / "panel" / "ticket.key"
    key.parent.mkdir(parents=True, exist_ok=True)
    if not key.exists():
        key.write_text("a key of the tests, long enough to be one: " + "k" * 32)
    server = await asyncio.start_unix_server(_answer, str(run / "agent.sock"))
    try:
        yield
    finally:
        server.close()
        (run / "agent.sock").unlink()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        question = json.loads(await reader.readline())
        op = question["what"] if question["op"] == "volume_files" else question["op"]
        writer.write(json.dumps({"ok": _OK.get(op, {})}).encode() + b"\n")
        if op in _SENT:
            await reader.read(-1)
        if op in _LINES:
            writer.write(json.dumps(_LINES[op]).encode() + b"\n")
        await writer.drain()
    writer.close()
