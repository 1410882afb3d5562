"""An export as it is read: a piece at a time in a reader thread, so that a long log takes no memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from django.http import StreamingHttpResponse

from controlpanel.audit import export, search
from controlpanel.base import database
from engine.errors import InvalidArgument


def answer(asked: search.Search, chain: int | None, format: str, tenants: dict[int, str], name: str) -> StreamingHttpResponse:
    """``name`` begins the file's. InvalidArgument for a format that there is not."""
    if format not in export.FORMATS:
        raise InvalidArgument(f"format {format[:20]!r} is none of {', '.join(export.FORMATS)}")
    response = StreamingHttpResponse(_parts(asked, chain, format, tenants), content_type=export.TYPES[format])
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-audit-{stamp}.{format}"'
    response.headers["Cache-Control"] = "no-store"
    return response


async def _parts(asked: search.Search, chain: int | None, format: str, tenants: dict[int, str]) -> AsyncIterator[bytes]:
    parts = export.FORMATS[format](search.everything(asked, chain), tenants)
    while (part := await database.read(next, parts, None)) is not None:
        yield part
