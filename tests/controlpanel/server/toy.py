"""An application that hijacks, to be looked at from outside."""

from __future__ import annotations

import asyncio
from typing import Any

seen: dict[str, Any] = {}  # what the last request met


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Paths: /echo copies, /upper says its request body first, /flood writes, /sleep reads late, /late and /never answer late and never,
    /who and anything else answer."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"].strip("/")
    seen["extension"] = scope["extensions"]["http.hijack"]
    seen["extension"]["ended"](lambda: seen.update(over=True))
    if path in ("late", "never"):
        await asyncio.sleep(0.1 if path == "late" else 60)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"late"})
        return
    if path not in ("echo", "upper", "flood", "sleep", "stop"):
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})
        return
    body = await receive() if path == "upper" else {"body": b""}
    while body.get("more_body"):
        more = await receive()
        body = {"body": body["body"] + more["body"], "more_body": more["more_body"]}
    upgraded = any(name == b"upgrade" for name, _ in scope["headers"])
    await send({"type": "http.hijack.start", "status": 101 if upgraded else 200, "headers": [(b"content-type", b"x/raw")]})
    if path == "stop":
        await send({"type": "http.hijack.send", "data": b"last words"})
        return
    if path == "flood":
        seen["sent"] = 0
        for _ in range(100):
            await send({"type": "http.hijack.send", "data": bytes(1 << 20)})
            seen["sent"] += 1 << 20
        return
    if path == "sleep":
        await asyncio.sleep(0.5)
    if path == "upper":
        await send({"type": "http.hijack.send", "data": body["body"].upper()})
    seen["kinds"] = []
    while True:
        message = await receive()
        seen["kinds"].append(message["type"])
        if message["type"] == "http.disconnect":
            return
        if message["type"] == "http.hijack.eof":
            await send({"type": "http.hijack.send", "data": b"<eof>"})
            return
        await send({"type": "http.hijack.send", "data": message["data"]})
