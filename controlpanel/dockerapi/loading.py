"""``load``, ``create`` and ``save`` of images: tars go through to the agent and from it as they come, progress lines come back."""

from __future__ import annotations

from typing import Any

from controlpanel.dockerapi import registries
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.images import repository_and_tag
from controlpanel.images import transfers
from controlpanel.tenants.permissions import require
from engine.errors import EngineError, InvalidArgument
from engine.model.platform import Platform


async def load(exchange: Exchange) -> None:
    require(exchange.actor, "image.load")
    await _receive(exchange, "load", quiet=exchange.flag("quiet"), platform=_platform(exchange))


async def create(exchange: Exchange) -> None:
    """``fromImage``: a pull. ``fromSrc=-``: import of a root file system; another word is the address that the host fetches it from."""
    source = exchange.text("fromSrc")
    if exchange.text("fromImage"):
        await registries.pull(exchange, _platform(exchange))
        return
    require(exchange.actor, "image.load")
    if not source:
        raise InvalidArgument("invalid reference format: fromImage or fromSrc is needed")
    repository, tag = exchange.text("repo"), exchange.text("tag")
    platform = _platform(exchange)
    if platform and (system := Platform.parse(platform).os) != "linux":
        raise InvalidArgument(f"operating system is not supported: {system}")
    await _receive(
        exchange,
        "import",
        address="" if source == "-" else source,
        ref=repository_and_tag(repository, tag) if repository else "",
        changes=exchange.query.get("changes", []),
        message=exchange.text("message"),
        platform=platform,
    )


async def save(exchange: Exchange) -> None:
    """``GET /images/get?names=…`` and ``GET /images/{name}/get``: one archive."""
    names = [exchange.params["name"]] if "name" in exchange.params else [name for name in exchange.query.get("names", []) if name]
    async with transfers.save(exchange.actor, names, platform=_platform(exchange)) as saved:
        await exchange.begin("application/x-tar")
        await exchange.while_connected(_down(exchange, saved))


async def _down(exchange: Exchange, saved: transfers.Saved) -> None:
    async for chunk in saved.chunks:
        await exchange.write(chunk)
    await exchange.end()


def _platform(exchange: Exchange) -> str:
    """One, as JSON or as linux/arm64/v8; empty when nobody asked."""
    asked = exchange.query.get("platform", [])
    if len(asked) > 1:
        raise InvalidArgument("multiple platform parameters not supported")
    platform = asked[0] if asked else ""
    if platform:
        Platform.parse(platform)
    return platform


async def _receive(exchange: Exchange, op: str, *, quiet: bool = False, **words: Any) -> None:
    """Reads the body and writes progress at the same time; the head goes out with the first line, so an early refusal has its
    own status. After that errors travel inside of the stream, as Docker's clients expect; those of a load always do."""
    async with transfers.receive(exchange.actor, op, exchange.body(), **words) as lines:
        try:
            async for line in lines:
                if not (quiet and "progressDetail" in line):
                    await _say(exchange, line)
        except EngineError as error:
            if not exchange.replied and op == "import":
                raise
            await _say(exchange, {"errorDetail": {"message": error.message}, "error": error.message})
    if not exchange.replied:
        await exchange.begin()
    await exchange.end()


async def _say(exchange: Exchange, line: dict[str, Any]) -> None:
    if not exchange.replied:
        await exchange.begin()
    await exchange.write_json(line)
