"""Acts on files. Bytes stream through the host's agent; here is who may, what is told, and what is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.containers import acts, projection, rows
from controlpanel.containers.projection import ContainerView
from controlpanel.hosts import streams
from controlpanel.images import charged
from controlpanel.images import projection as images
from controlpanel.images import rows as image_rows
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine import errors
from engine.model.reference import Reference

MAX_LISTED: Final = 20_000  # changes that REST and a page show of one comparison


@dataclass(frozen=True, slots=True)
class Download:
    """``chunks`` raises ConnectionAbortedError when the archive is cut off; leaving the context ends the copy on the host."""

    view: ContainerView
    stat: dict[str, Any]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Side:
    """One of two to be compared, found within the tenant. ``name`` is what people call it."""

    kind: Literal["container", "image"]
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Difference:
    """``lines`` as engine.files.reading.line_of has them, the first MAX_LISTED of ``count``."""

    count: int
    lines: list[dict[str, Any]]


async def stat(actor: Actor, name: str, path: str) -> dict[str, Any]:
    require(actor, "container.files_read")
    view = await projection.container(actor, name)
    ok, _reader, writer = await streams.open_stream("archive_stat", view.spec.tenant, view.id, path=path, shown=name)
    writer.close()
    said: dict[str, Any] = ok["stat"]
    return said


@asynccontextmanager
async def download(actor: Actor, name: str, path: str) -> AsyncIterator[Download]:
    """A tar of what is at ``path``."""
    require(actor, "container.files_read")
    view = await projection.container(actor, name)
    ok, reader, writer = await streams.open_stream("archive_get", view.spec.tenant, view.id, path=path, shown=name)
    try:
        await database.run(_told, actor, view.id, "archive-path", "container.files_read", {"path": path})
        yield Download(view, ok["stat"], streams.whole_tar(reader))
    finally:
        writer.transport.abort()


@asynccontextmanager
async def export(actor: Actor, name: str) -> AsyncIterator[Download]:
    """All its files as one tar, without what is mounted in it."""
    require(actor, "container.files_read")
    view = await projection.container(actor, name)
    _ok, reader, writer = await streams.open_stream("export", view.spec.tenant, view.id)
    try:
        await database.run(_told, actor, view.id, "export", "container.export", {})
        yield Download(view, {}, streams.whole_tar(reader))
    finally:
        writer.transport.abort()


async def upload(
    actor: Actor,
    name: str,
    path: str,
    body: AsyncIterator[bytes],
    *,
    no_overwrite: bool = False,
    copy_owner: bool = False,
    file: str = "",
) -> None:
    """Extracts a tar, compressed or not, into the folder ``path``. Returns when all is there. ``file``: what the audit says it was."""
    require(actor, "container.files_write")
    view = await projection.container(actor, name)
    async with audit.recorded(actor, "container.files_write", view.name, path=file or path) as act:
        _ok, reader, writer = await streams.open_stream(
            "archive_put", view.spec.tenant, view.id, path=path, shown=name, no_overwrite=no_overwrite, copy_owner=copy_owner
        )
        await hand_over(body, reader, writer)
        await database.run(_written, view.id, act)


async def hand_over(body: AsyncIterator[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A tar to the host. Returns when it is there; the stream is closed."""
    sending = asyncio.ensure_future(_send(body, writer))
    try:
        answer = await reader.read(-1)
        if not answer:  # cut off on the host's side, or the client went away
            if sending.done():
                await sending
            raise errors.Unavailable("the copy was ended on the host before it was complete: the container may have been started")
        _done(answer)
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()


async def _send(body: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    """A client that goes away cuts the tar off, which the host refuses; a host that has refused is heard when the client is done."""
    try:
        async for chunk in body:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except ConnectionResetError:
        if not writer.is_closing():
            writer.transport.abort()
            raise
        await _drained(body)
    except OSError:
        await _drained(body)


async def _drained(body: AsyncIterator[bytes]) -> None:
    async for _chunk in body:
        pass


def _told(actor: Actor, container_id: str, action: str, verb: str, detail: dict[str, str]) -> None:
    row = acts.row_of(container_id)
    rows.event(row, action)
    audit.record(actor, verb, row.name, **detail)


def _written(container_id: str, act: audit.Recorded) -> None:
    rows.event(acts.row_of(container_id), "extract-to-dir")
    act.done()


# -- what changed ------------------------------------------------------------------------------------


async def changes(actor: Actor, name: str) -> bytes:
    """``docker diff``: a JSON array of {"Path", "Kind"}, or null."""
    require(actor, "container.files_read")
    view = await projection.container(actor, name)
    _ok, reader, writer = await streams.open_stream("changes", view.spec.tenant, view.id)
    try:
        _done(await reader.readline())
        return await reader.read(-1)
    finally:
        writer.transport.abort()


async def side(actor: Actor, kind: str, name: str) -> Side:
    """NotFound for what the tenant has not."""
    if kind == "container":
        view = await projection.container(actor, name)
        return Side("container", view.id, view.name)
    if kind == "image":
        image = await images.image(actor, name)
        return Side("image", image.id, name)
    raise errors.InvalidArgument(f"{kind!r} is neither container nor image")


async def diff(actor: Actor, old: Side, new: Side) -> Difference:
    require(actor, "container.files_read")
    _ok, reader, writer = await streams.open_stream("diff", _tenant(actor), "", old=_words(old), new=_words(new))
    try:
        count = int(_done(await reader.readline())["count"])
        lines = []
        while len(lines) < MAX_LISTED and (line := await reader.readline()):
            lines.append(orjson.loads(line))
        if len(lines) < min(count, MAX_LISTED):
            raise errors.Unavailable("the comparison was cut off on the host: try again")
        return Difference(count, lines)
    finally:
        writer.transport.abort()


async def text_diff(actor: Actor, old: Side, new: Side, path: str) -> dict[str, Any]:
    """{"diff", "binary", "too_large", "truncated"} of one file."""
    require(actor, "container.files_read")
    _ok, reader, writer = await streams.open_stream("diff_text", _tenant(actor), "", old=_words(old), new=_words(new), path=path)
    try:
        return _done(await reader.read(-1))
    finally:
        writer.transport.abort()


# -- commit ------------------------------------------------------------------------------------------


async def commit(
    actor: Actor,
    name: str,
    *,
    ref: str = "",
    author: str = "",
    comment: str = "",
    changes: Sequence[str] = (),
    config: dict[str, Any] | None = None,
    pause: bool = True,
) -> str:
    """The new image's id. ``config``: Docker's, instead of the container's own."""
    require(actor, "image.load")
    require(actor, "container.commit")
    if ref and Reference.parse(ref).digest:
        raise errors.InvalidArgument("refusing to create a tag with a digest reference")
    view = await projection.container(actor, name)
    assert actor.tenant is not None
    async with audit.recorded(actor, "container.commit", view.name, ref=ref) as act:
        await database.run(charged.check_room, actor.tenant)
        _ok, reader, writer = await streams.open_stream(
            "commit",
            view.spec.tenant,
            view.id,
            config=config,
            container_config=view.docker_config,
            changes=list(changes),
            ref=ref,
            author=author,
            comment=comment,
            pause=pause,
        )
        try:
            image = _done(await reader.read(-1))["image"]
        finally:
            writer.transport.abort()
        return await database.run(_committed, actor, view.id, image, ref, comment, act)


def _committed(actor: Actor, container_id: str, image: dict[str, Any], ref: str, comment: str, act: audit.Recorded) -> str:
    record = image_rows.record_from(image["record"])
    image_row = image_rows.put(actor.tenant_number, record)
    image_rows.tell(actor.tenant_number, "create", record.id, record.id)
    for each in image["refs"]:
        image_rows.point(image_row, each)
        image_rows.tell(actor.tenant_number, "tag", record.id, each)
    row = acts.row_of(container_id)
    rows.event(row, "commit", comment=comment, imageID=record.id, imageRef=ref)
    act.done(image_id=record.id)
    return record.id


def _done(line: bytes) -> dict[str, Any]:
    """Raises what the host says instead, or Unavailable when it says nothing."""
    try:
        answer = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise errors.Unavailable("the host's agent broke off: try again in a moment") from None
    if "error" in answer:
        raise errors.from_json(answer["error"])
    done: dict[str, Any] = answer["done"]
    return done


def _tenant(actor: Actor) -> str:
    return acts.tenant_of(actor).name


def _words(side: Side) -> dict[str, str]:
    return {"kind": side.kind, "id": side.id}
