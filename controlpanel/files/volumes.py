"""Files of a volume, whoever has it mounted: resolved inside it alone, by a process of the host that is root of the tenant's ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.files import services
from controlpanel.hosts import streams
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from controlpanel.volumes import projection
from engine.errors import EngineError

_OP = "volume_files"


async def stat(actor: Actor, name: str, path: str) -> dict[str, Any]:
    said: dict[str, Any] = (await _answer(actor, name, path, "stat", "volume.files_read"))["stat"]
    return said


async def entries(actor: Actor, name: str, path: str) -> tuple[list[dict[str, Any]], int]:
    """What is in a folder, as path stats with uid and gid; and how many there are, of which not all may be told."""
    ok = await _answer(actor, name, path, "list", "volume.files_read")
    return ok["entries"], int(ok["count"])


async def remove(actor: Actor, name: str, path: str) -> None:
    """A file, or a folder with all that is in it."""
    require(actor, "volume.files_write")
    spec = await projection.volume(actor, name)
    async with audit.recorded(actor, "volume.files_write", spec.name, path=path, removed=True) as act:
        await _answer(actor, name, path, "remove", "volume.files_write")
        await database.run(act.done)


async def _answer(actor: Actor, name: str, path: str, what: str, verb: str) -> dict[str, Any]:
    require(actor, verb)
    ok, _reader, writer = await _open(actor, name, what, path)
    writer.close()
    return ok


async def _open(actor: Actor, name: str, what: str, path: str) -> tuple[dict[str, Any], asyncio.StreamReader, asyncio.StreamWriter]:
    """Refusals that speak of a container mean the volume."""
    spec = await projection.volume(actor, name)
    try:
        return await streams.open_stream(_OP, spec.tenant, spec.name, what=what, path=path or "/")
    except EngineError as error:
        words = error.message.replace(f"in container {name}", f"in volume {name}")
        raise type(error)(words, **error.detail) from None


@asynccontextmanager
async def download(actor: Actor, name: str, path: str = "") -> AsyncIterator[AsyncIterator[bytes]]:
    """A tar of what is at ``path``; without one, of all of it."""
    require(actor, "volume.files_read")
    _ok, reader, writer = await _open(actor, name, "get" if path else "export", path)
    try:
        await database.run(audit.record, actor, "volume.files_read", name, path=path or "/")
        yield streams.whole_tar(reader)
    finally:
        writer.transport.abort()


async def upload(actor: Actor, name: str, path: str, body: AsyncIterator[bytes]) -> None:
    """Extracts a tar, compressed or not, into the folder ``path``. Returns when all is there."""
    require(actor, "volume.files_write")
    spec = await projection.volume(actor, name)
    async with audit.recorded(actor, "volume.files_write", spec.name, path=path or "/") as act:
        _ok, reader, writer = await _open(actor, name, "put", path)
        await services.hand_over(body, reader, writer)
        await database.run(act.done)
