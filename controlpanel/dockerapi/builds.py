"""``POST /build`` of the classic builder, its prune and its cancel. The body is read and the reply written at the same time."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from controlpanel.builds import services
from controlpanel.builds.services import Lines
from controlpanel.containers import limits, options
from controlpanel.containers.request import extra_hosts
from controlpanel.dockerapi import buildkit, registries, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.hosts.machine import here
from controlpanel.tenants.permissions import require
from engine import errors
from engine.errors import InvalidArgument, PermissionDenied, Unsupported
from engine.model.build import DOCKERFILE, BuildRequest
from engine.model.platform import Platform
from engine.model.reference import Reference

_HELD: Final = 10_000  # lines of a quiet build, for the case that it fails
_NUMBERS: Final = {
    "memory": "Memory", "memswap": "MemorySwap", "cpushares": "CpuShares", "cpuperiod": "CpuPeriod", "cpuquota": "CpuQuota",
}  # fmt: skip
_TEXTS: Final = {"cpusetcpus": "CpusetCpus", "cpusetmems": "CpusetMems", "cgroupparent": "CgroupParent"}


async def build(exchange: Exchange) -> None:
    require(exchange.actor, "image.build")
    if exchange.text("version") == "2":
        raise Unsupported(buildkit.SENTENCE)
    request = _request(exchange)
    arrived = asyncio.Event()
    if request.remote:
        await exchange.read_body()
        arrived.set()
    body = None if request.remote else _body(exchange, arrived)
    credentials = registries.all_from_header(exchange)
    async with services.run(exchange.actor, request, body, registries=credentials, client_id=exchange.text("buildid")) as lines:
        work = asyncio.ensure_future(_relay(exchange, lines, quiet=request.quiet))
        sending = asyncio.ensure_future(arrived.wait())
        try:
            await asyncio.wait({work, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await exchange.while_connected(work)
            else:
                work.result()
        finally:
            for task in (work, sending):
                task.cancel()
            await asyncio.gather(work, sending, return_exceptions=True)


async def _body(exchange: Exchange, arrived: asyncio.Event) -> AsyncIterator[bytes]:
    """While it comes, a client that goes away is noticed here; afterwards by whoever waits for that."""
    async for chunk in exchange.body():
        yield chunk
    arrived.set()


async def _relay(exchange: Exchange, lines: Lines, *, quiet: bool) -> None:
    """The head goes out with the first line; what goes wrong before it has its own status. ``quiet``: the image's id alone, or all
    that was said before it failed."""
    held: deque[dict[str, Any]] = deque(maxlen=_HELD)
    image_id = ""
    async for line in lines:
        if "errorDetail" in line:
            code = line.pop("code", None)
            if not exchange.replied and not held:
                raise errors.from_json({"code": code, "message": line["error"]})
            for each in held:
                await _say(exchange, each)
            held.clear()
        if quiet and "errorDetail" not in line:
            image_id = (line.get("aux") or {}).get("ID") or image_id
            held.append(line)
            continue
        await _say(exchange, line)
    if held:
        await _say(exchange, {"stream": f"{image_id}\n"})
    if not exchange.replied:
        await exchange.begin()
    await exchange.end()


async def _say(exchange: Exchange, line: dict[str, Any]) -> None:
    if not exchange.replied:
        await exchange.begin()
    await exchange.write_json(line)


async def prune(exchange: Exchange) -> None:
    """``all``, ``keep-storage`` and its successors rank what may stay; all of it may go here, as no image needs the cache."""
    await exchange.read_body()
    done = await services.prune(exchange.actor, words.filters(exchange.text("filters"), None))
    await exchange.reply_json({"CachesDeleted": done["caches"] or None, "SpaceReclaimed": done["bytes"]})


async def cancel(exchange: Exchange) -> None:
    """``id`` is the buildid that the client gave."""
    await exchange.read_body()
    name = exchange.text("id")
    if not name:
        raise InvalidArgument("build ID not provided")
    await services.cancel(exchange.actor, name)
    await exchange.reply(204)


async def session(_exchange: Exchange) -> None:
    raise Unsupported(buildkit.SENTENCE)


# -- what is asked ---------------------------------------------------------------------------------


def _request(exchange: Exchange) -> BuildRequest:
    tenant = exchange.actor.tenant
    assert tenant is not None
    host_config = _host_config(exchange)
    found = limits.read(host_config, here())
    platform = exchange.text("platform")
    return BuildRequest(
        id=secrets.token_hex(16),
        tenant=tenant.name,
        tags=tuple(_tag(name) for name in exchange.query.get("t", []) if name),
        dockerfile=exchange.text("dockerfile") or DOCKERFILE,
        remote=exchange.text("remote"),
        args=_args(exchange),
        labels=_texts(exchange, "labels"),
        target=exchange.text("target"),
        platform=str(Platform.parse(platform)) if platform else "",
        network=_network(exchange.text("networkmode")),
        resources=found.resources,
        shm_size_bytes=_number(exchange, "shmsize") or 64 << 20,
        ulimits=options.ulimits(host_config),
        extra_hosts=tuple(extra_hosts({"ExtraHosts": _hosts(exchange)})),
        cgroup_parent=exchange.text("cgroupparent"),
        no_cache=exchange.flag("nocache"),
        pull=exchange.flag("pull"),
        cache_from=tuple(_list(exchange, "cachefrom")),
        squash=exchange.flag("squash"),
        quiet=exchange.flag("q"),
        remove=exchange.flag("rm", True),
        force_remove=exchange.flag("forcerm"),
    )


def _host_config(exchange: Exchange) -> dict[str, Any]:
    asked: dict[str, Any] = {member: _number(exchange, name) for name, member in _NUMBERS.items() if exchange.text(name)}
    asked |= {member: exchange.text(name) for name, member in _TEXTS.items() if exchange.text(name)}
    if text := exchange.text("ulimits"):
        asked["Ulimits"] = _json(text, "ulimits", list)
    if exchange.text("isolation") not in ("", "default"):
        raise InvalidArgument(f"invalid isolation ({exchange.text('isolation')}): linux only supports 'default'")
    for option in exchange.query.get("securityopt", []):
        if option and option not in ("no-new-privileges", "no-new-privileges:true"):
            raise PermissionDenied(f"--security-opt {option} is not for builds", rule="SecurityOpt")
    return asked


def _tag(name: str) -> str:
    reference = Reference.parse(name)
    if reference.digest:
        raise InvalidArgument("build tag cannot contain a digest")
    return str(reference)


def _network(mode: str) -> str:
    if mode in ("", "default", "bridge"):
        return ""
    if mode == "none":
        return mode
    if mode == "host":
        raise PermissionDenied("sharing a namespace with the host is not allowed (networkmode)", rule="NetworkMode")
    raise Unsupported(f"networkmode {mode}: a build has the tenant's bridge, or none")


def _args(exchange: Exchange) -> dict[str, str | None]:
    """A null keeps the Dockerfile's default."""
    given = _json(exchange.text("buildargs"), "build args", dict)
    if not all(value is None or isinstance(value, str) for value in given.values()):
        raise InvalidArgument("error reading build args: values must be strings")
    return dict(given)


def _texts(exchange: Exchange, name: str) -> dict[str, str]:
    given = _json(exchange.text(name), name, dict)
    if not all(isinstance(value, str) for value in given.values()):
        raise InvalidArgument(f"error reading {name}: values must be strings")
    return dict(given)


def _list(exchange: Exchange, name: str) -> list[str]:
    given = _json(exchange.text(name), name, list)
    return [each for each in given if isinstance(each, str)]


def _json(text: str, what: str, kind: type) -> Any:
    if not text:
        return kind()
    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"error reading {what}: {error}") from None
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise InvalidArgument(f"error reading {what}: it has the wrong type")
    return found


def _number(exchange: Exchange, name: str) -> int:
    text = exchange.text(name)
    try:
        return int(text or 0)
    except ValueError:
        raise InvalidArgument(f'invalid {name}: strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _hosts(exchange: Exchange) -> list[str]:
    """Several, or one with commas, as the command line sends them."""
    return [word for text in exchange.query.get("extrahosts", []) for word in text.split(",") if word]
