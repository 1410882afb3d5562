"""One request of the Docker API and its reply, over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson

from controlpanel.base.streaming import received
from controlpanel.dockerapi import versions, words
from controlpanel.tenants.actor import Actor
from engine.errors import InvalidArgument

Message = dict[str, Any]
T = TypeVar("T")

MAX_JSON = 4 << 20  # bytes of a JSON body: a create request with very many labels has some hundred KiB
_JSON = (b"content-type", b"application/json")


class Exchange:
    """Filled in step by step: ``path`` and ``version`` at once, ``actor`` by the door, ``params`` by the router."""

    __slots__ = ("_query", "_receive", "_send", "actor", "method", "params", "path", "replied", "scope", "version")

    actor: Actor
    params: dict[str, str]

    def __init__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.version = versions.API
        self.replied = False  # the head of a reply went out: errors can't be said by status any more
        self._query: dict[str, list[str]] | None = None

    # What was asked

    @property
    def query(self) -> dict[str, list[str]]:
        if self._query is None:
            self._query = {}
            for name, value in parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True):
                self._query.setdefault(name, []).append(value)
        return self._query

    def text(self, name: str, default: str = "") -> str:
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str, default: bool = False) -> bool:
        values = self.query.get(name)
        return words.boolean(values[0]) if values else default

    def header(self, name: bytes) -> str:
        for known, value in self.scope["headers"]:
            if known == name:
                return str(value.decode("latin-1"))
        return ""

    def body(self) -> AsyncIterator[bytes]:
        """Chunk by chunk, as the client sends it; ConnectionResetError when it goes away in the middle."""
        return received(self._receive)

    async def read_body(self) -> bytes:
        """Whole. InvalidArgument beyond MAX_JSON."""
        parts, size = [], 0
        async for part in self.body():
            size += len(part)
            if size > MAX_JSON:
                raise InvalidArgument(f"request body is larger than {MAX_JSON} bytes")
            parts.append(part)
        return b"".join(parts)

    async def read_json(self) -> bytes:
        """The body, which must say that it is JSON. As moby: a body without a type is refused as well."""
        data = await self.read_body()
        kind = self.header(b"content-type")
        if data and not kind:
            raise InvalidArgument("malformed Content-Type header (): mime: no media type")
        if kind and kind.partition(";")[0].strip().lower() != "application/json":
            raise InvalidArgument(f"unsupported Content-Type header ({kind}): must be 'application/json'")
        return data

    # What is answered

    async def reply(self, status: int, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.replied = True
        head = [*versions.HEADERS, *(headers or [])]
        if status not in (204, 304):
            head.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": status, "headers": head})
        await self._send({"type": "http.response.body", "body": body if self.method != "HEAD" else b""})

    async def reply_json(self, value: Any, status: int = 200) -> None:
        await self.reply(status, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE), [_JSON])

    async def reply_bytes(self, data: bytes) -> None:
        """JSON that is serialised already."""
        await self.reply(200, data, [_JSON])

    async def reply_error(self, status: int, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        await self.reply(status, orjson.dumps({"message": message}, option=orjson.OPT_APPEND_NEWLINE), [_JSON, *(headers or [])])

    async def begin(
        self, content_type: str = "application/json", status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        """The head of a streamed reply, flushed at once; then ``write`` and ``end``."""
        self.replied = True
        head = [*versions.HEADERS, (b"content-type", content_type.encode()), *(headers or [])]
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    async def write(self, data: bytes) -> None:
        """Waits while the client doesn't read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def write_json(self, value: Any) -> None:
        await self.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def while_connected(self, work: Awaitable[T]) -> T | None:
        """``work``'s result; None, and ``work`` cancelled, when the client goes away first. The body must have been read."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._disconnected())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for future in (task, gone):
                if not future.done():
                    future.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # A stream both ways

    async def hijack(self, content_type: str) -> None:
        """101 for who asked to upgrade, else 200; afterwards ``stream_receive`` and ``stream_send``."""
        self.replied = True
        head = [(b"content-type", content_type.encode())]
        upgrades = bool(self.header(b"upgrade"))
        if upgrades:
            head += [(b"connection", b"Upgrade"), (b"upgrade", b"tcp")]
        await self._send({"type": "http.hijack.start", "status": 101 if upgrades else 200, "headers": [*versions.HEADERS, *head]})

    async def hijack_websocket(self, accept: str) -> None:
        """101, with the answer to the handshake; the frames are the caller's."""
        self.replied = True
        head = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-accept", accept.encode())]
        await self._send({"type": "http.hijack.start", "status": 101, "headers": [*versions.HEADERS, *head]})

    async def stream_receive(self) -> Message:
        return await self._receive()

    async def stream_send(self, data: bytes) -> None:
        await self._send({"type": "http.hijack.send", "data": data})
