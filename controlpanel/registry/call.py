"""One request of the registry and its answer, over ASGI."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import orjson

from controlpanel.base.streaming import received
from controlpanel.base.transport import came_by_tls
from controlpanel.registry.errors import Refused
from controlpanel.registry.subjects import Subject

Message = dict[str, Any]

JSON: Final = "application/json"
_FORM_MAX: Final = 64 << 10
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_:\[\]]{1,255}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
# What tenants pushed is given out from the panel's own address: a browser that is led there shall run none of it.
_ALWAYS: Final = [
    (b"docker-distribution-api-version", b"registry/2.0"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
]


class Call:
    """``params`` are filled in by the router, ``subject`` by the application."""

    __slots__ = ("_query", "_receive", "_send", "method", "params", "path", "replied", "scope", "subject")

    def __init__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.params: dict[str, str] = {}
        self.subject = Subject()
        self.replied = False
        self._query: list[tuple[str, str]] | None = None

    # What was asked

    def values(self, name: str) -> list[str]:
        """Of the query."""
        if self._query is None:
            self._query = parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return [value for known, value in self._query if known == name]

    def text(self, name: str) -> str:
        values = self.values(name)
        return values[0] if values else ""

    def header(self, name: bytes) -> str:
        for known, value in self.scope["headers"]:
            if known == name:
                return str(value.decode("latin-1"))
        return ""

    @property
    def length(self) -> int | None:
        """Content-Length; None: nobody knows (chunked)."""
        if self.header(b"transfer-encoding"):
            return None
        words = self.header(b"content-length")
        return int(words) if _NUMBER.fullmatch(words) else 0

    @property
    def origin(self) -> str:
        """How the client calls this machine: ``https://registry.example:2376``."""
        host = self.header(b"host")
        if not _HOST.fullmatch(host):
            server = self.scope.get("server") or ("localhost", None)
            host = server[0] + (f":{server[1]}" if server[1] else "")
        return f"{'https' if came_by_tls(self.scope) else 'http'}://{host}"

    def body(self) -> AsyncIterator[bytes]:
        return received(self._receive)

    async def read_body(self, limit: int = _FORM_MAX) -> bytes:
        """Whole. Refused with 413 beyond ``limit``."""
        too_large = Refused("SIZE_INVALID", f"more than {limit} bytes", status=413)
        if (self.length or 0) > limit:
            raise too_large
        parts, size = [], 0
        async for part in self.body():
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
        return b"".join(parts)

    # What is answered

    async def reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, kind: str = "") -> None:
        await self.begin(status, len(body), {**({"Content-Type": kind} if kind else {}), **(headers or {})})
        await self.write(body if self.method != "HEAD" else b"", more=False)

    async def reply_json(self, value: Any, headers: Mapping[str, str] | None = None, kind: str = JSON) -> None:
        await self.reply(200, orjson.dumps(value), headers, kind)

    async def begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        """The head; then ``write`` ``length`` bytes."""
        self.replied = True
        head = [*_ALWAYS, *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items())]
        if status not in (204, 304):
            head.append((b"content-length", b"%d" % length))
        await self._send({"type": "http.response.start", "status": status, "headers": head})

    async def write(self, data: bytes | bytearray, *, more: bool) -> None:
        """Waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def next_page(path: str, limit: int, last: str, **words: str) -> dict[str, str]:
    """The Link header (RFC 8288) to what comes after ``last``."""
    more = "".join(f"&{name}={quote(value, safe='')}" for name, value in words.items() if value)
    return {"Link": f'<{path}?n={limit}&last={quote(last, safe="")}{more}>; rel="next"'}
