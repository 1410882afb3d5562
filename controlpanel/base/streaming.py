"""Bodies of answers that are read while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack


async def closing(stack: AsyncExitStack, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``stack`` is let go of when the last chunk is sent, or the client has gone."""
    async with stack:
        async for chunk in chunks:
            yield chunk
