"""Request bodies that are read while they arrive: Django collects a body before it calls a view, 10 GB would lie on the disk first.

For such a request Django gets an empty body, and everything else as ever (who is it, may they, which view); the view reads the chunks
from ``body(request)``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from django.http import HttpRequest

from controlpanel.base.streaming import received

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_KEY: Final = "slipway.upload"
_PATIENCE_S: Final = 10.0


class _Upload:
    """``ended`` is set when all has arrived; from then on the client's leaving is Django's to hear."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in received(self._receive):
            yield chunk
        self.ended.set()

    async def drain(self) -> None:
        """What the view did not want: most clients read no answer before they have sent everything."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                if not self.ended.is_set():
                    async for _chunk in self.chunks():
                        pass
        except (TimeoutError, ConnectionResetError):
            pass


async def streamed(django: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope, receive: Receive, send: Send) -> None:
    """``django`` with a body that is left to the view."""
    upload, told = _Upload(receive), False
    waits = any(name == b"expect" for name, _value in scope["headers"])  # for a word of ours before it sends anything

    async def nothing_then_the_end() -> dict[str, Any]:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await upload.ended.wait()
        return await receive()

    async def send_when_heard(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and not waits:
            await upload.drain()
        await send(message)

    await django({**scope, _KEY: upload}, nothing_then_the_end, send_when_heard)


def body(request: HttpRequest) -> AsyncIterator[bytes]:
    """Once. ConnectionResetError when the client goes away in the middle."""
    upload: _Upload = request.scope[_KEY]  # type: ignore[attr-defined]
    return upload.chunks()
