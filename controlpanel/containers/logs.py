"""A container's log as plain text, for the download button and REST. Docker's frames are for its own API (dockerapi/logs.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from django.http import StreamingHttpResponse

from controlpanel.containers import projection
from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require

CHUNK: Final = 64 << 10
_HEADER: Final = 8  # of a frame: stream, three zeros, length


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Both streams in the order they were written, unless one is left out. ``tail`` -1: all lines."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    timestamps: bool = False
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1


async def as_text(actor: Actor, name: str, wanted: Wanted) -> StreamingHttpResponse:
    """Refusals are raised here; later the connection ends with what was there."""
    require(actor, "container.view")
    view = await projection.container(actor, name)
    ok, reader, writer = await open_stream(
        "logs",
        view.spec.tenant,
        view.id,
        stdout=wanted.stdout,
        stderr=wanted.stderr,
        follow=wanted.follow,
        timestamps=wanted.timestamps,
        since_ns=wanted.since_ns,
        until_ns=wanted.until_ns,
        tail=wanted.tail,
    )
    chunks = _raw(reader) if ok.get("tty") else _unframed(reader)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            writer.close()

    return StreamingHttpResponse(body(), content_type="text/plain; charset=utf-8")


async def _raw(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(CHUNK):
        yield data


async def _unframed(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The payloads of the frames, many small ones together."""
    rest = bytearray()
    while data := await reader.read(CHUNK):
        rest += data
        text, at = bytearray(), 0
        while at + _HEADER <= len(rest):
            end = at + _HEADER + int.from_bytes(rest[at + 4 : at + _HEADER], "big")
            if end > len(rest):
                break
            text += rest[at + _HEADER : end]
            at = end
        del rest[:at]
        if text:
            yield bytes(text)
