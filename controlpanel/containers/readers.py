"""Who reads a container's output through this process. ``docker run --rm`` is removed when they have it all: its log goes with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

PATIENCE_S: Final = 10.0  # with a client that does not read on: what is left then, it loses

_open: dict[str, int] = {}  # container id → readers
_waiting: dict[str, list[asyncio.Event]] = {}


@contextlib.contextmanager
def reading(container_id: str) -> Iterator[None]:
    _open[container_id] = _open.get(container_id, 0) + 1
    try:
        yield
    finally:
        _open[container_id] -= 1
        if not _open[container_id]:
            del _open[container_id]
            for over in _waiting.pop(container_id, ()):
                over.set()


async def have_read(container_id: str, within_s: float = PATIENCE_S) -> None:
    """Of a container that has ended: returns when the last reader is through, or has had time enough."""
    if container_id in _open:
        over = asyncio.Event()
        _waiting.setdefault(container_id, []).append(over)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await over.wait()
