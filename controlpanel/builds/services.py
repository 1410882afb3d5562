"""Builds begun, watched and ended. The bytes go between the client and the host as they come; here they are recorded.

run      for a client that stays: its lines, while its context is still being read; leaving the context cancels the build
start    for one that does not: the host does it whatever becomes of this process, and its log tells of it
resume   at the start of the panel: what an earlier process has started is listened to from its beginning
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any, Final

import orjson

from controlpanel.audit import services as audit
from controlpanel.audit.models import BEGUN
from controlpanel.base import database, live, statements
from controlpanel.builds import logs
from controlpanel.builds.models import DAY_NS, Build, seconds_today
from controlpanel.hosts import streams, tenants
from controlpanel.images import charged, rows
from controlpanel.images.pulling import Credentials
from controlpanel.tenants import projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require, where
from controlpanel.tenants.quota import ledger
from controlpanel.tenants.quota.resources import BUILD_MINUTES, BUILDS
from engine import errors
from engine.model import codec
from engine.model.build import BuildRequest, without_secrets

KEPT: Final = 200  # builds of a tenant that are remembered; older ones go, with their logs
CANCELLED: Final = "Build cancelled"

Line = dict[str, Any]
Lines = AsyncIterator[Line]
_running: dict[str, _Running] = {}  # by build id; of this process
_background: set[asyncio.Task[None]] = set()


class _Running:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def cancel(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def run(
    actor: Actor,
    request: BuildRequest,
    body: AsyncIterator[bytes] | None,
    *,
    registries: Mapping[str, Credentials] | None = None,
    client_id: str = "",
    detached: bool = False,
) -> AsyncIterator[Lines]:
    """Docker's lines. The last one may have ``errorDetail``, ``error`` and ``code``: the build has failed then.

    Entering raises what is wrong before anything has begun. ``detached``: leaving it early ends nothing.
    """
    require(actor, "image.build", projects.name_of(request.labels))
    tenant = actor.tenant
    assert tenant is not None
    if seconds_left := await database.run(_seconds_left, tenant):
        request = replace(request, time_limit_s=min(request.time_limit_s or seconds_left, seconds_left))
    await tenants.ensure(tenant)
    credentials = {host: asdict(each) for host, each in (registries or {}).items()}
    _ok, reader, writer = await streams.open_stream(
        "build", tenant.name, request.id, request=codec.to_json(request), registries=credentials, detached=detached
    )
    try:
        build = await database.run(_begin, actor, request, client_id)
    except BaseException:
        writer.transport.abort()  # which is the end of it on the host, too: its context is not whole
        raise
    _running[request.id] = _Running(writer)
    upload = asyncio.ensure_future(_upload(body, writer))
    outcome = _Outcome(build)
    try:
        yield _lines(tenant.pk, reader, upload, outcome)
    except asyncio.CancelledError:
        outcome.goes_on = detached and upload.done()
        raise
    finally:
        _running.pop(request.id, None)
        upload.cancel()
        writer.transport.abort()
        await asyncio.shield(asyncio.ensure_future(_end(outcome, upload)))
        if detached and not outcome.goes_on:
            await _end_there(build)


async def start(
    actor: Actor, request: BuildRequest, body: AsyncIterator[bytes] | None, *, registries: Mapping[str, Credentials] | None = None
) -> None:
    """Returns when the context is on the host; the build goes on. Raises what is wrong before that."""
    uploaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def go_on() -> None:
        source = None if body is None else _told(body, uploaded)
        async with run(actor, request, source, registries=registries, detached=True) as lines:
            if body is None and not uploaded.done():
                uploaded.set_result(None)
            async for line in lines:
                if "errorDetail" in line and not uploaded.done():
                    uploaded.set_exception(errors.from_json({"code": line.get("code"), "message": line["error"]}))

    task = asyncio.create_task(go_on())
    _background.add(task)
    task.add_done_callback(_background.discard)
    await asyncio.wait({task, uploaded}, return_when=asyncio.FIRST_COMPLETED)
    if uploaded.done():
        uploaded.result()
    else:
        task.result()


async def text_body(text: str) -> AsyncIterator[bytes]:
    """A Dockerfile alone, which the builder takes in place of a tar."""
    yield text.encode()


async def _told(body: AsyncIterator[bytes], uploaded: asyncio.Future[None]) -> AsyncIterator[bytes]:
    try:
        async for chunk in body:
            yield chunk
    except BaseException as error:
        if not uploaded.done():
            uploaded.set_exception(error)
        raise
    if not uploaded.done():
        uploaded.set_result(None)


async def cancel(actor: Actor, build_id: str) -> None:
    """By its id, or by the name that its client gave it. A build that has ended is fine."""
    require(actor, "image.build")
    build = await database.read(_named, actor, build_id)
    require(actor, "image.build", build.project)
    running = _running.get(build.build_id)
    await _end_there(build)
    if running is not None:
        running.cancel()
    elif build.state == Build.RUNNING:  # of a process that is no more: its connection to the host went with it
        await database.run(_finish, build, Build.CANCELLED, CANCELLED, "")
    await database.run(_cancelled, actor, build)


async def resume() -> None:
    """At the start of the panel: of what was under way in an earlier process the host does that which was detached. The rest has gone
    with its connection."""
    for build in await database.read(_under_way):
        task = asyncio.create_task(_resume(build))
        _background.add(task)
        task.add_done_callback(_background.discard)


async def _resume(build: Build) -> None:
    try:
        _ok, reader, writer = await streams.open_stream("build_follow", build.tenant.name, build.build_id)
    except errors.EngineError:
        await database.run(_finish, build, Build.CANCELLED, "the panel was restarted", "")
        return
    _running[build.build_id] = _Running(writer)
    uploaded = asyncio.get_running_loop().create_future()
    uploaded.set_result(None)
    logs.remove(build.build_id)  # it is told once more
    outcome = _Outcome(build)
    try:
        async for _line in _lines(build.tenant_id, reader, uploaded, outcome):
            pass
    except asyncio.CancelledError:
        outcome.goes_on = True
        raise
    finally:
        _running.pop(build.build_id, None)
        writer.transport.abort()
        await asyncio.shield(asyncio.ensure_future(_end(outcome, uploaded)))
        if not outcome.goes_on:
            await _end_there(build)


async def prune(actor: Actor, filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """{"caches": [keys], "bytes"}."""
    require(actor, "image.prune")
    tenant = actor.tenant
    assert tenant is not None
    words = {name: list(values) for name, values in filters.items()}
    async with audit.recorded(actor, "image.build_prune", tenant.name, filters=words) as act:
        ok, _reader, writer = await streams.open_stream("build_prune", tenant.name, "", answer_within_s=300.0, filters=words)
        writer.transport.abort()
        await database.run(act.done, steps=len(ok["caches"]), bytes=ok["bytes"])
    return ok


async def usage(actor: Actor) -> list[dict[str, Any]]:
    """The steps in the tenant's cache, which is one for all projects: for who sees the whole tenant."""
    require(actor, "image.view")
    if where(actor, "image.view") is not None:
        return []
    tenant = actor.tenant
    assert tenant is not None
    ok, reader, writer = await streams.open_stream("build_usage", tenant.name, "")
    steps: list[dict[str, Any]] = []
    try:
        while len(steps) < ok["steps"]:
            line = await reader.readline()
            if not line:
                raise errors.Unavailable("the host's agent went away: try again in a moment")
            steps += orjson.loads(line)["steps"]
    finally:
        writer.transport.abort()
    return steps


# -- the stream ------------------------------------------------------------------------------------


class _Outcome:
    """What is known of a build so far; nothing yet: it was cancelled."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.state, self.error = Build.CANCELLED, CANCELLED
        self.goes_on = False  # without us: this process ends, the host does it
        self.log = logs.LogWriter(build.build_id)


async def _lines(tenant_number: int, reader: asyncio.StreamReader, upload: asyncio.Future[None], outcome: _Outcome) -> Lines:
    while data := await reader.readline():
        line = orjson.loads(data)
        if line.get("images"):
            await database.run(_pulled, tenant_number, line["images"])
        if "built" in line:
            outcome.state, outcome.error = Build.FAILED, "the image was built, and could not be recorded: build it again"
            await database.run(_built, outcome.build, line["built"])
            outcome.state = Build.DONE
            return
        if "images" in line:
            continue
        outcome.log.write(line)
        if "errorDetail" in line:
            if line["error"] != CANCELLED:
                outcome.state, outcome.error = Build.FAILED, line["error"]
            await asyncio.gather(upload, return_exceptions=True)  # most clients read no answer before they have sent everything
        yield line
    if outcome.state == Build.CANCELLED:
        yield {"errorDetail": {"message": CANCELLED}, "error": CANCELLED, "code": errors.FailedPrecondition.code}


async def _end(outcome: _Outcome, upload: asyncio.Future[None]) -> None:
    await asyncio.gather(upload, return_exceptions=True)
    if outcome.state == Build.CANCELLED and not outcome.goes_on:
        outcome.log.write({"error": f"{CANCELLED}\n"})
    outcome.log.close()
    if outcome.state != Build.DONE and not outcome.goes_on:
        await database.run(_finish, outcome.build, outcome.state, outcome.error, "")


async def _end_there(build: Build) -> None:
    """Of a detached one: it is over, and the host need not keep what it said."""
    with contextlib.suppress(errors.EngineError):  # then it ended with its agent
        _ok, _reader, writer = await streams.open_stream("build_end", build.tenant.name, build.build_id)
        writer.transport.abort()


async def _upload(body: AsyncIterator[bytes] | None, writer: asyncio.StreamWriter) -> None:
    """A client that goes away in the middle takes the build along."""
    try:
        async for chunk in body or _nothing():
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except ConnectionResetError:
        writer.transport.abort()
    except OSError:
        with contextlib.suppress(ConnectionResetError):
            async for _chunk in body or _nothing():  # the host has seen enough; the client must be read to its end to hear why
                pass


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


# -- rows ------------------------------------------------------------------------------------------


def _seconds_left(tenant: Tenant) -> int:
    """That a build may take today; 0 = without a quota. QuotaExceeded when there are none, or no room for an image."""
    charged.check_room(tenant)
    account = ledger.account(tenant.pk)
    account.admit({BUILD_MINUTES: 1})
    minutes = account.limit(BUILD_MINUTES)
    return max(1, minutes * 60 - seconds_today(tenant.pk)) if minutes else 0


def _begin(actor: Actor, request: BuildRequest, client_id: str) -> Build:
    tenant = actor.tenant
    assert tenant is not None
    words = {
        "target": request.target,
        "platform": request.platform,
        "args": sorted(request.args),
        "no_cache": request.no_cache,
        "pull": request.pull,
        "squash": request.squash,
    }
    build = Build(
        tenant=tenant,
        build_id=request.id,
        client_id=client_id[:128],
        project=projects.name_of(request.labels),
        tags=list(request.tags),
        source=without_secrets(request.remote)[:400],
        dockerfile=request.dockerfile[:400],
        words={name: value for name, value in words.items() if value},
        actor=actor.label[:200],
        door=actor.door_name,
        began_ns=time.time_ns(),
    )
    ledger.account(tenant.pk).admit({BUILDS: 1})
    record = audit.record(actor, "image.build", _shown(build), result=BEGUN, build=build.build_id, source=build.source, **build.words)
    build.record = record.number
    statements.insert(build)
    _forget_old(tenant.pk)
    _tell(build)
    return build


def _forget_old(tenant_id: int) -> None:
    """Beyond KEPT; but not those of a day, whose minutes count."""
    ended, since_ns = Build.everywhere.filter(tenant_id=tenant_id).exclude(state=Build.RUNNING), time.time_ns() - DAY_NS
    beyond = ended.order_by("-began_ns").values_list("build_id", "ended_ns")[KEPT:]
    old = [build_id for build_id, ended_ns in beyond if ended_ns < since_ns]
    if old:
        Build.everywhere.filter(build_id__in=old).delete()
    for build_id in old:
        logs.remove(build_id)


def _finish(build: Build, state: str, error: str, image_id: str) -> None:
    build.state, build.error = state, without_secrets(error)[:4000]
    build.image_id, build.ended_ns = image_id, time.time_ns()
    if statements.update(build, "state", "error", "image_id", "ended_ns", only_if=("state", Build.RUNNING)):
        who = audit.Named(build.tenant_id, build.actor, "", build.door)
        failure = None if state == Build.DONE else errors.FailedPrecondition(build.error or state)
        detail = {"image_id": image_id} if image_id else {}
        audit.outcome(build.record, who, "image.build", _shown(build), failure, build=build.build_id, **detail)
        _tell(build)


def _built(build: Build, item: dict[str, Any]) -> None:
    """The image is the tenant's from here on, and the build is done; Docker tells of its names."""
    record = rows.record_from(item["record"])
    row = rows.put(build.tenant_id, record)
    for ref in item["refs"]:
        if rows.point(row, ref, time_ns=item.get("time_ns", 0)) or ref in build.tags:
            rows.tell(build.tenant_id, "tag", record.id, ref)
    rows.remind(build.tenant_id)
    _finish(build, Build.DONE, "", record.id)


def _pulled(tenant_number: int, images: Sequence[dict[str, Any]]) -> None:
    for item in images:
        record = rows.record_from(item["record"])
        row = rows.put(tenant_number, record)
        for ref in item["refs"]:
            rows.point(row, ref, time_ns=item.get("time_ns", 0))
        for ref in item["refs"]:
            rows.tell(tenant_number, "pull", ref, ref)
    rows.remind(tenant_number)


def _named(actor: Actor, build_id: str) -> Build:
    builds = Build.objects.for_actor(actor).select_related("tenant")
    found: Build | None = builds.filter(build_id=build_id).first()
    if found is None and build_id:
        found = builds.filter(client_id=build_id).order_by("-began_ns").first()
    if found is None:
        raise errors.NotFound(f"No such build: {build_id}")
    return found


def _cancelled(actor: Actor, build: Build) -> None:
    audit.record(actor, "image.build_cancel", _shown(build), build=build.build_id)


def _under_way() -> list[Build]:
    return [build for build in Build.everywhere.filter(state=Build.RUNNING).select_related("tenant") if build.build_id not in _running]


def _shown(build: Build) -> str:
    return str(build.tags[0]) if build.tags else build.build_id[:12]


def _tell(build: Build) -> None:
    live.on_commit({"kind": "build", "tenant": build.tenant_id, "id": build.build_id, "state": build.state})
