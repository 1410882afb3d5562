"""Pull and push, a look at a registry, a login there: the host's agent does it, here it is authorised, recorded and told.

Credentials pass through and are kept nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.hosts import streams, tenants
from controlpanel.images import charged, rows
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine import errors
from engine.errors import InvalidArgument
from engine.model.platform import Platform
from engine.model.reference import DEFAULT_DOMAIN, Reference

Lines = AsyncIterator[dict[str, Any]]

PATIENCE_S: Final = 300.0  # for a registry's answer to one question


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Credentials:
    """Docker's AuthConfig."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


NOBODY: Final = Credentials()


@asynccontextmanager
async def pull(
    actor: Actor, reference: Reference, *, platform: str = "", credentials: Credentials = NOBODY, every_tag: bool = False
) -> AsyncIterator[Lines]:
    """Docker's progress lines; what came is the tenant's at their end. Leaving the context earlier cancels it on the host.

    The iterator raises what is wrong, in moby's words; before its first line nothing has happened.
    """
    require(actor, "image.pull")
    if platform:
        Platform.parse(platform)
    assert actor.tenant is not None
    await database.run(charged.check_room, actor.tenant)
    words = {"ref": str(reference), "platform": platform, "credentials": asdict(credentials), "every_tag": every_tag}
    async with _transfer(actor, "pull", words) as lines:
        yield lines


@asynccontextmanager
async def push(actor: Actor, reference: Reference, *, credentials: Credentials = NOBODY, every_tag: bool = False) -> AsyncIterator[Lines]:
    """As ``pull``."""
    require(actor, "image.push")
    if reference.digest:
        raise InvalidArgument("cannot push a digest reference")
    words = {"ref": str(reference), "credentials": asdict(credentials), "every_tag": every_tag}
    async with _transfer(actor, "push", words) as lines:
        yield lines


async def inspect(actor: Actor, reference: Reference, credentials: Credentials = NOBODY) -> dict[str, Any]:
    """Docker's DistributionInspect, of an image that stays where it is."""
    require(actor, "image.pull")
    return await _ask(actor, "distribution", {"ref": str(reference), "credentials": asdict(credentials)})


async def login(actor: Actor, domain: str, credentials: Credentials) -> str:
    """The identity token to use instead of the password, where the registry gives one. Unauthenticated when it says no."""
    require(actor, "image.pull")
    ok = await _ask(actor, "login", {"domain": domain, "credentials": asdict(credentials)})
    await database.run(_logged_in, actor, domain, credentials.username)
    return str(ok["identity_token"])


def domain_of(server: str) -> str:
    """The registry that ``docker login SERVER`` means: a URL of old, or host[:port]; nothing is Docker's own."""
    host = server.partition("://")[2] if "://" in server else server
    host = host.partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", DEFAULT_DOMAIN) or host.endswith(f".{DEFAULT_DOMAIN}") else host


async def _ask(actor: Actor, op: str, words: dict[str, Any]) -> dict[str, Any]:
    tenant = actor.tenant
    assert tenant is not None
    await tenants.ensure(tenant)
    ok, _reader, writer = await streams.open_stream(op, tenant.name, "", answer_within_s=PATIENCE_S, **words)
    writer.close()
    return ok


@asynccontextmanager
async def _transfer(actor: Actor, op: str, words: dict[str, Any]) -> AsyncIterator[Lines]:
    tenant = actor.tenant
    assert tenant is not None
    await tenants.ensure(tenant)
    async with audit.recorded(actor, f"image.{op}", words["ref"]) as act:
        _ok, reader, writer = await streams.open_stream(op, tenant.name, "", **words)
        try:
            yield _lines(actor, op, reader, act)
        finally:
            writer.transport.abort()


async def _lines(actor: Actor, op: str, reader: asyncio.StreamReader, act: audit.Recorded) -> Lines:
    while data := await reader.readline():
        line = orjson.loads(data)
        if "errorDetail" in line:
            error = errors.from_json({**line, "message": line["error"]})
            await database.run(act.failed, error)
            raise error
        if "images" in line:
            await database.run(_came if op == "pull" else _went, actor, line, act)
        else:
            yield line


def _came(actor: Actor, line: dict[str, Any], act: audit.Recorded) -> None:
    _mirror(actor, line)
    _tell(actor, "pull", line, act)


def _went(actor: Actor, line: dict[str, Any], act: audit.Recorded) -> None:
    """The tenant knows an image of its own by the digest that the registry has for it."""
    _mirror(actor, {"images": [item for item in line["images"] if item["refs"]]})
    _tell(actor, "push", line, act)


def _mirror(actor: Actor, line: dict[str, Any]) -> None:
    for item in line["images"]:
        row = rows.put(actor.tenant_number, rows.record_from(item["record"]))
        for ref in item["refs"]:
            rows.point(row, ref, time_ns=item.get("time_ns", 0))
    rows.remind(actor.tenant_number)


def _tell(actor: Actor, action: str, line: dict[str, Any], act: audit.Recorded) -> None:
    reference = Reference.parse(line["ref"])
    rows.tell(actor.tenant_number, action, line["ref"], reference.name)
    act.done(ref=line["ref"], digest=line["digest"])


def _logged_in(actor: Actor, domain: str, username: str) -> None:
    audit.record(actor, "registry.login", domain, username=username)
