"""How files are answered over HTTP, and taken, whoever's they are: one file, or a tar. Bytes are passed on as they come.

Refusals are raised before the answer begins. One that is cut off ends the connection without its last chunk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from urllib.parse import quote

from django.http import HttpRequest, StreamingHttpResponse

from controlpanel.base import uploads
from controlpanel.base.streaming import closing
from controlpanel.files import single
from engine.errors import InvalidArgument

Chunks = AsyncIterator[bytes]


async def tar(found: AbstractAsyncContextManager[Chunks], filename: str) -> StreamingHttpResponse:
    stack = AsyncExitStack()
    chunks = await stack.enter_async_context(found)
    response = StreamingHttpResponse(closing(stack, chunks), content_type="application/x-tar")
    response.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response


async def one_file(found: AbstractAsyncContextManager[Chunks], name: str) -> StreamingHttpResponse:
    """``found``: a tar with the file alone."""
    async with AsyncExitStack() as stack:  # let go of here, unless there is an answer that does it
        file = await single.unwrap(await stack.enter_async_context(found))
        response = StreamingHttpResponse(closing(stack.pop_all(), file.chunks), content_type="application/octet-stream")
    response.headers["Content-Length"] = str(file.size)
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return response


def given(request: HttpRequest, path: str, *, mode: str, uid: int, gid: int) -> tuple[str, Chunks]:
    """(folder, tar) of the file in the request's body. It must say Content-Length, because a tar has the size first."""
    folder, base = single.split(path)
    said = request.headers.get("Content-Length", "")
    if not said.isdecimal():
        raise InvalidArgument("say how long the file is: Content-Length is missing")
    return folder, single.wrap(base, int(said), uploads.body(request), mode=int(mode, 8), uid=uid, gid=gid)
