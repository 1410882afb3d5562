"""Byte streams from and to a host: attach, logs, stats, load, import, resize, events. Drawn in workers/contract.py.

The caller has authorised: what is signed here is done. Bytes don't pass Celery or Redis, but the agent's unix socket.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from engine import errors
from workers import tickets

VERSION: Final = 1
BUFFER: Final = 1 << 20  # bytes read ahead; twice that stops the agent's side
_TAR_END: Final = 1024  # zero bytes that end a tar
ANSWER_TIMEOUT_S: Final = 30.0


@cache
def _key(data: Path) -> bytes:
    return tickets.read_key(data)


async def open_stream(
    op: str, tenant: str, object_id: str, *, answer_within_s: float = ANSWER_TIMEOUT_S, **words: Any
) -> tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
    """(the agent's ok, reader, writer); the caller closes the writer. Raises what the agent answers, or Unavailable."""
    path = settings.SLIPWAY_RUN / "agent.sock"
    ticket = tickets.sign(_key(settings.SLIPWAY_DATA), op, tenant, object_id)
    question = {"v": VERSION, "ticket": ticket, "op": op, "tenant": tenant, "id": object_id, **words}
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=BUFFER)
    except OSError as error:
        raise errors.Unavailable(f"the host's agent does not answer ({error.strerror}): try again in a moment") from error
    try:
        writer.write(json.dumps(question, separators=(",", ":")).encode() + b"\n")
        async with asyncio.timeout(answer_within_s):
            line = await reader.readline()
        if not line:
            raise errors.Unavailable("the host's agent went away: try again in a moment")
        answer = json.loads(line)
        if "error" in answer:
            raise errors.from_json(answer["error"])
    except (OSError, TimeoutError) as error:
        writer.close()
        raise errors.Unavailable("the host's agent does not answer: try again in a moment") from error
    except BaseException:
        writer.close()
        raise
    ok: dict[str, Any] = answer.get("ok") or {}
    return ok, reader, writer


async def whole_tar(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """A tar that the agent sends. ConnectionAbortedError at its end when it was cut off."""
    tail = b""
    while data := await reader.read(BUFFER):
        tail = (tail + data[-_TAR_END:])[-_TAR_END:]
        yield data
    if tail != bytes(_TAR_END):
        raise ConnectionAbortedError("the archive was cut off on the host")
