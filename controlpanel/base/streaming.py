"""Bodies that pass in pieces: of requests while they arrive, of answers while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any


async def closing(stack: AsyncExitStack, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``stack`` is let go of when the last chunk is sent, or the client has gone."""
    async with stack:
        async for chunk in chunks:
            yield chunk


async def received(receive: Callable[[], Awaitable[dict[str, Any]]]) -> AsyncIterator[bytes]:
    """A request's body, as the client sends it; ConnectionResetError when it goes away in the middle."""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionResetError("the client went away")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return
