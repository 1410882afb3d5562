"""REST: looks at containers that the Docker API has words for: ``inspect``, events, where to attach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import orjson
from django.http import HttpRequest, HttpResponseBase
from ninja import Query, Router, Schema

from controlpanel.base import database, live, rest
from controlpanel.containers import projection
from controlpanel.dockerapi import events
from controlpanel.dockerapi.inspect import document
from controlpanel.dockerapi.versions import API_TEXT
from controlpanel.events import log as kept
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.rest import actor
from engine.errors import InvalidArgument

router = Router()
_ONE: Final = "/tenants/{tenant}/containers/{name}"
_WAITING: Final = 1000  # events that a slow reader may be behind


class AttachOut(Schema):
    """Addresses on this port, which take the same token as a header. Of ``framed`` output each piece has Docker's header of 8 bytes."""

    websocket: str
    stream: str
    framed: bool
    stdin: bool


@router.get(_ONE + "/inspect", response=dict[str, Any], summary="The very document that docker inspect prints")
async def inspect_container(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    return await document(who, await projection.container(who, name))


@router.get(_ONE + "/attach", response=AttachOut, summary="Where to attach to its terminal or pipes")
async def attach_container(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.attach")
    view = await projection.container(who, name)
    words = urlencode({"stream": 1, "stdin": int(view.spec.open_stdin), "stdout": 1, "stderr": 1})
    path = f"/v{API_TEXT}/containers/{view.id}/attach"
    return {"websocket": f"{path}/ws?{words}", "stream": f"{path}?{words}", "framed": not view.spec.tty, "stdin": view.spec.open_stdin}


@router.get("/tenants/{tenant}/events", summary="What happened and happens, as JSON lines in the shape of Docker's events")
async def tenant_events(
    request: HttpRequest,
    tenant: str,
    since: Annotated[datetime | None, Query(description="With what is kept from then on.")] = None,
    until: Annotated[datetime | None, Query(description="Then the answer ends.")] = None,
    type: Annotated[list[str] | None, Query(description="container, image, network.")] = None,
    event: Annotated[list[str] | None, Query(description="start, die, oom, health_status, …")] = None,
    container: Annotated[list[str] | None, Query(description="Names or ids.")] = None,
    image: Annotated[list[str] | None, Query()] = None,
    label: Annotated[list[str] | None, Query(description="name or name=value.")] = None,
) -> HttpResponseBase:
    who = await actor(request, tenant, "container.view")
    since_ns, until_ns = _time_ns(since), _time_ns(until)
    if until_ns and until_ns < since_ns:
        raise InvalidArgument("since cannot be after until")
    asked = {"type": type, "event": event, "container": container, "image": image, "label": label}
    return rest.lines(_events(who, {name: values for name, values in asked.items() if values}, since_ns, until_ns))


async def _events(who: Actor, given: dict[str, list[str]], since_ns: int, until_ns: int) -> AsyncIterator[bytes]:
    """Of a reader that is slow the events wait in the queue, and then in the feed's mailbox, whose losses are read again from the rows."""
    queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_WAITING)

    async def tell(event: events.Event) -> None:
        await queue.put(orjson.dumps(event) + b"\n")

    async def find() -> None:
        failure = None
        try:
            await _tell(who, events.Told(tell, given, kept.sight(who)), since_ns, until_ns)
        except Exception as error:
            failure = error
        await queue.put(failure)

    finding = asyncio.create_task(find())
    try:
        while (line := await queue.get()) is not None:
            if isinstance(line, Exception):
                raise line  # it breaks the answer off, so that nobody takes it for whole
            yield line
    finally:
        finding.cancel()
        await asyncio.gather(finding, return_exceptions=True)


async def _tell(who: Actor, told: events.Told, since_ns: int, until_ns: int) -> None:
    with live.subscribe(who.tenant_number, "event") as news:  # before reading what is kept: nothing falls between
        if since_ns or until_ns:
            await told.tell_rows(await database.read(kept.read, who.tenant_number, since_ns=since_ns, until_ns=until_ns))
        left_s = (until_ns - time.time_ns()) / 1e9 if until_ns else None
        if left_s is None or left_s > 0:
            try:
                await asyncio.wait_for(events.follow(who.tenant_number, news, told), left_s)
            except TimeoutError:
                pass  # ``until`` has come


def _time_ns(moment: datetime | None) -> int:
    """A time without a zone is UTC."""
    if moment is None:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000_000)
