"""Static files: hashed names where they were collected (an installation), Django's finders in a bare checkout.

A hashed name never changes its content, so browsers keep it for ever; plain names are asked for again each time.
"""

from __future__ import annotations

import asyncio
import gzip
import mimetypes
import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.exceptions import SuspiciousFileOperation

_HASHED: Final = re.compile(r"\.[0-9a-f]{12}\.\w+$")
_COMPRESSIBLE: Final = ("text/", "image/svg+xml", "application/json")
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}

Send = Callable[[dict[str, Any]], Awaitable[None]]


class HashedFiles(ManifestStaticFilesStorage):
    """With the imports inside our modules rewritten, too: one module under two names would be two modules."""

    support_js_module_import_aggregation = True


async def application(scope: dict[str, Any], _receive: Any, send: Send) -> None:
    """GET and HEAD below STATIC_URL. Files of an installation are read once and kept, compressed where that helps."""
    if scope["method"] not in ("GET", "HEAD"):
        await _answer(send, 405, b"", [(b"allow", b"GET, HEAD")])
        return
    name = scope["path"].removeprefix(settings.STATIC_URL)
    path = _locate(name)
    if path is None:
        await _answer(send, 404, b"no such file", [(b"content-type", b"text/plain")])
        return
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    hashed = _HASHED.search(name) is not None
    headers = [
        (b"content-type", f"{kind}; charset=utf-8".encode() if kind.startswith("text/") else kind.encode()),
        (b"cache-control", b"public, max-age=31536000, immutable" if hashed else b"no-cache"),
        (b"x-content-type-options", b"nosniff"),
        (b"vary", b"accept-encoding"),
    ]
    accepts = b"gzip" in dict(scope["headers"]).get(b"accept-encoding", b"")
    if accepts and kind.startswith(_COMPRESSIBLE):
        body = await asyncio.to_thread(_compressed if hashed else _compress, path)
        headers.append((b"content-encoding", b"gzip"))
    else:
        body = await asyncio.to_thread(path.read_bytes)
    await _answer(send, 200, body, headers, head=scope["method"] == "HEAD")


def _locate(name: str) -> Path | None:
    """Only what was collected, or what the finders know: no path is made of the request's words alone."""
    if settings.HASHED_STATIC:
        return _collected().get(name)
    try:
        found = finders.find(name)
    except (SuspiciousFileOperation, ValueError):
        return None
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


@cache
def _collected() -> dict[str, Path]:
    root = Path(settings.STATIC_ROOT)
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


def _compress(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 6, mtime=0)


_compressed = cache(_compress)


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], *, head: bool = False) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if head else body})
