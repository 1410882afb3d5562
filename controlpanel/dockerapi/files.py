"""``archive`` (docker cp), ``changes``, ``export`` and ``commit``."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from controlpanel.dockerapi import schema, shapes
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.images import repository_and_tag
from controlpanel.files import services
from engine.errors import InvalidArgument

_STAT: Final = b"X-Docker-Container-Path-Stat"


async def archive_stat(exchange: Exchange) -> None:
    said = await services.stat(exchange.actor, exchange.params["id"], _path(exchange))
    await exchange.reply(200, headers=[_stat_header(said)])


async def archive_get(exchange: Exchange) -> None:
    async with services.download(exchange.actor, exchange.params["id"], _path(exchange)) as found:
        await exchange.begin("application/x-tar", headers=[_stat_header(found.stat)])
        await exchange.while_connected(_down(exchange, found.chunks))


async def archive_put(exchange: Exchange) -> None:
    await services.upload(
        exchange.actor,
        exchange.params["id"],
        _path(exchange),
        exchange.body(),
        no_overwrite=exchange.flag("noOverwriteDirNonDir"),
        copy_owner=exchange.flag("copyUIDGID"),
    )
    await exchange.reply(200)


async def export(exchange: Exchange) -> None:
    async with services.export(exchange.actor, exchange.params["id"]) as found:
        await exchange.begin("application/octet-stream")
        await exchange.while_connected(_down(exchange, found.chunks))


async def changes(exchange: Exchange) -> None:
    await exchange.reply_bytes(await services.changes(exchange.actor, exchange.params["id"]))


async def commit(exchange: Exchange) -> None:
    if not exchange.text("container"):
        raise InvalidArgument('invalid name or ID supplied: ""')
    repository = exchange.text("repo")
    image_id = await services.commit(
        exchange.actor,
        exchange.text("container"),
        ref=repository_and_tag(repository, exchange.text("tag")) if repository else "",
        author=exchange.text("author"),
        comment=exchange.text("comment"),
        changes=exchange.query.get("changes", []),
        config=_config(await exchange.read_json()),
        pause=exchange.flag("pause", True),
    )
    await exchange.reply_json({"Id": image_id}, 201)


def _config(data: bytes) -> dict[str, Any] | None:
    """Docker's Config; None for an empty body, and for the empty object that some clients send."""
    given = schema.parse(data) if data.strip() else None
    return schema.decode(shapes.CONFIG, given, go_type="container.Config") if given else None


def _path(exchange: Exchange) -> str:
    path = exchange.text("path")
    if not path:
        raise InvalidArgument("bad parameter: pathcannot be empty")  # moby's words, to the letter
    return path


def _stat_header(said: dict[str, Any]) -> tuple[bytes, bytes]:
    return _STAT, base64.b64encode(orjson.dumps(said))


async def _down(exchange: Exchange, chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        await exchange.write(chunk)
    await exchange.end()
