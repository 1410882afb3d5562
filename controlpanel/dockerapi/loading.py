"""``load`` and ``create`` of images: the client's tar goes through to the agent as it comes, progress lines come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.images import repository_and_tag
from controlpanel.dockerapi.relay import close
from controlpanel.hosts import streams, tenants
from controlpanel.images import projection, services
from controlpanel.tenants.permissions import require
from engine import errors
from engine.errors import EngineError, InvalidArgument, NotFound, Unsupported

NO_REGISTRY = "no registry reachable yet: docker load or import"


async def load(exchange: Exchange) -> None:
    require(exchange.actor, "image.load")
    await _receive(exchange, "load", quiet=exchange.flag("quiet"))


async def create(exchange: Exchange) -> None:
    """``fromSrc=-``: import of a root file system. ``fromImage``: a pull, for which there is no registry yet."""
    require(exchange.actor, "image.load")
    source = exchange.text("fromSrc")
    if not source:
        await _pull(exchange)
        return
    if source != "-":
        raise Unsupported("import from a URL is not supported yet: send the tar itself (docker import -)")
    repository, tag = exchange.text("repo"), exchange.text("tag")
    ref = repository_and_tag(repository, tag) if repository else ""
    await _receive(
        exchange,
        "import",
        action="import",
        ref=ref,
        changes=exchange.query.get("changes", []),
        message=exchange.text("message"),
        architecture=_architecture(exchange.text("platform")),
    )


def _architecture(platform: str) -> str:
    """Of ``linux/arm64/v8``; empty for the host's own."""
    system, _slash, rest = platform.partition("/")
    if platform and system != "linux":
        raise InvalidArgument(f"operating system is not supported: {system}")
    return rest.partition("/")[0]


async def _pull(exchange: Exchange) -> None:
    await exchange.read_body()
    name = exchange.text("fromImage")
    if not name:
        raise InvalidArgument("invalid reference format: fromImage or fromSrc is needed")
    ref = repository_and_tag(name, exchange.text("tag"))
    try:
        await projection.image(exchange.actor, ref)
    except NotFound:
        raise NotFound(NO_REGISTRY) from None
    raise NotFound(f"{NO_REGISTRY}; {ref} is here already, as it was loaded")


async def _receive(exchange: Exchange, op: str, *, action: str = "load", quiet: bool = False, **words: Any) -> None:
    """Reads the body and writes progress at the same time; the head goes out with the first line, so an early refusal has its
    own status. After that errors travel inside of the stream, as Docker's clients expect."""
    tenant = exchange.actor.tenant
    assert tenant is not None
    await tenants.ensure(tenant)
    _ok, reader, writer = await streams.open_stream(op, tenant.name, "", **words)
    upload = asyncio.ensure_future(_upload(exchange, writer))
    try:
        async for line in _lines(reader):
            if "errorDetail" in line and action == "import" and not exchange.replied:
                raise errors.from_json({"code": line.get("code"), "message": line["error"]})
            if "images" in line:
                await services.added(exchange.actor, line["images"], action=action)
            elif not (quiet and "progressDetail" in line):
                await _say(exchange, line)
        await upload
        if not exchange.replied:
            await exchange.begin()
        await exchange.end()
    except EngineError as error:
        if not exchange.replied:
            raise
        await exchange.write_json({"error": error.message, "errorDetail": {"message": error.message}})
        await exchange.end()
    finally:
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
        close(writer)


async def _say(exchange: Exchange, line: dict[str, Any]) -> None:
    if not exchange.replied:
        await exchange.begin()
    await exchange.write_json(line)


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while line := await reader.readline():
        yield orjson.loads(line)


async def _upload(exchange: Exchange, writer: asyncio.StreamWriter) -> None:
    """A client that goes away in the middle cuts the agent's tar short, which the agent refuses as truncated."""
    try:
        async for chunk in exchange.body():
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except ConnectionResetError:
        writer.transport.abort()
    except OSError:
        async for _chunk in exchange.body():  # the agent has seen enough; the client must be read to its end to hear why
            pass
