"""Images' bytes on their way between a client and the host: load and import in, save out. They pass here as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.hosts import streams, tenants
from controlpanel.images import charged, projection, rows, services
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine import errors
from engine.model.reference import Reference

Lines = AsyncIterator[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Saved:
    """``chunks`` raises ConnectionAbortedError when the archive is cut off; leaving the context ends it on the host."""

    images: list[dict[str, Any]]  # {"id", "refs"}
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def receive(actor: Actor, op: str, body: AsyncIterator[bytes], **words: Any) -> AsyncIterator[Lines]:
    """``op`` load or import. Docker's progress lines, while ``body`` is still being read; what came is the tenant's at their end.

    Entering raises early refusals; the iterator raises what is wrong with the tar.
    """
    require(actor, "image.load")
    tenant = actor.tenant
    assert tenant is not None
    await database.run(charged.check_room, tenant)
    await tenants.ensure(tenant)
    async with audit.recorded(actor, "image.load", str(words.get("ref") or "archive"), op=op) as act:
        _ok, reader, writer = await streams.open_stream(op, tenant.name, "", **words)
        upload = asyncio.ensure_future(_upload(body, writer))
        try:
            yield _lines(actor, reader, upload, op, act)
        finally:
            upload.cancel()
            await asyncio.gather(upload, return_exceptions=True)
            writer.transport.abort()


async def _lines(actor: Actor, reader: asyncio.StreamReader, upload: asyncio.Future[None], op: str, act: audit.Recorded) -> Lines:
    while data := await reader.readline():
        line = orjson.loads(data)
        if "errorDetail" in line:
            await asyncio.gather(upload, return_exceptions=True)  # most clients read no answer before they have sent everything
            error = errors.from_json({"code": line.get("code"), "message": line["error"]})
            await database.run(act.failed, error)
            raise error
        if "images" in line:
            await services.added(actor, line["images"], act, action=op)
        else:
            yield line
    await upload


async def _upload(body: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    """A client that goes away in the middle cuts the agent's tar short, which the agent refuses as truncated."""
    try:
        async for chunk in body:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except ConnectionResetError:
        writer.transport.abort()
    except OSError:
        async for _chunk in body:  # the agent has seen enough; the client must be read to its end to hear why
            pass


@asynccontextmanager
async def save(actor: Actor, names: Sequence[str], *, platform: str = "") -> AsyncIterator[Saved]:
    """One archive of all of them. Raises before anything is sent: NotFound in moby's words."""
    require(actor, "image.save")
    tenant = actor.tenant
    assert tenant is not None
    ok, reader, writer = await streams.open_stream("save", tenant.name, "", names=list(names), platform=platform)
    try:
        await database.run(_saved, actor, ok["images"])
        yield Saved(ok["images"], streams.whole_tar(reader))
    finally:
        writer.transport.abort()


def _saved(actor: Actor, images: Sequence[dict[str, Any]]) -> None:
    for each in images:
        name = each["refs"][0] if each["refs"] else each["id"]
        rows.tell(actor.tenant_number, "save", each["id"], each["id"])  # moby names it so, whatever was asked for
        audit.record(actor, "image.save", name, image_id=each["id"])


async def file_name(actor: Actor, name: str) -> str:
    """What a browser may call the archive of this image."""
    view = await projection.image(actor, name)
    base = Reference.parse(view.refs[0]).name if view.refs else view.id[7:19]
    return f"{base.rpartition('/')[2]}.tar"
