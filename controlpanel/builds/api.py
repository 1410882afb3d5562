"""REST: builds. A context is uploaded as a tar, or fetched by the host; the build goes on when the answer is there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema, Status
from pydantic import Field

from controlpanel.base import database, uploads
from controlpanel.base.rest import Asked
from controlpanel.builds import asking, logs, queries, services
from controlpanel.builds.models import Build
from controlpanel.tenants.rest import actor

router = Router()
UPLOADS: Final = re.compile(r"/api/v1/tenants/[^/]+/builds")  # PUT: the body is a stream
_LIST = "/tenants/{tenant}/builds"
_ONE = "/tenants/{tenant}/builds/{build_id}"
_TAR: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}
}


class BuildOut(Schema):
    """``state``: running (also while it waits for its turn), done, failed, cancelled. ``source``: empty = an uploaded context."""

    id: str
    refs: list[str]
    state: str
    error: str
    image_id: str
    source: str
    dockerfile: str
    words: dict[str, Any]
    actor: str
    began_at: datetime
    ended_at: datetime | None
    took_s: float


class BuildIn(Asked):
    """One of ``address`` and ``text``."""

    address: str = Field("", max_length=2000, description="A git repository or a tar, as https://host/name.git.")
    branch: str = Field("", max_length=400, description="Branch, tag or commit of the repository.")
    folder: str = Field("", max_length=1000, description="The context's folder in it.")
    text: str = Field("", max_length=1 << 20, description="A Dockerfile that needs no context.")
    refs: list[str] = Field([], max_length=50, description="Names of the image, as team/web:2.")
    dockerfile: str = Field("", max_length=1000, description="Its path in the context. Empty: Dockerfile.")
    args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    secrets: dict[str, str] = Field({}, description="Of RUN --mount=type=secret, by id: in no image, history, log or cache.")
    ssh: dict[str, str] = Field(
        {}, description="Private keys of RUN --mount=type=ssh, by id (default): steps can use them and not read them."
    )
    target: str = ""
    platform: str = ""
    network: str = Field("", description="none: its commands have no network.")
    no_cache: bool = False
    pull: bool = False


class BuildCachePrunedOut(Schema):
    caches: list[str]
    bytes: int


@router.get(_LIST, response=list[BuildOut], summary="Its builds, the newest first")
async def list_builds(request: HttpRequest, tenant: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "image.view")
    return [_shown(build) for build in await database.read(queries.builds_of, who)]


@router.get(_ONE, response=BuildOut, summary="One build, by its id or the start of it")
async def get_build(request: HttpRequest, tenant: str, build_id: str) -> dict[str, Any]:
    who = await actor(request, tenant, "image.view")
    return _shown(await database.read(queries.build_of, who, build_id))


@router.get(_ONE + "/log", summary="What it said so far, from a byte on; X-Build-State tells whether more will come")
async def get_log(request: HttpRequest, tenant: str, build_id: str, offset: Annotated[int, Query(ge=0)] = 0) -> HttpResponse:
    who = await actor(request, tenant, "image.view")
    build = await database.read(queries.build_of, who, build_id)  # before the log is read: what it says ended has said all
    data = await database.read(logs.read, build.build_id, offset)
    response = HttpResponse(data, content_type="text/plain; charset=utf-8")
    response.headers["X-Build-State"] = build.state
    response.headers["Cache-Control"] = "no-store"
    return response


@router.put(
    _LIST, response={202: BuildOut}, summary="Build an uploaded context: a tar; X-Build-Secrets is base64 of JSON", openapi_extra=_TAR
)
async def build_upload(
    request: HttpRequest,
    tenant: str,
    ref: Annotated[list[str], Query(description="Names of the image.")] = [],  # noqa: B006  ninja's way of a list
    dockerfile: Annotated[str, Query(description="Its path in the context. Empty: Dockerfile.", max_length=1000)] = "",
    arg: Annotated[list[str], Query(description="NAME=value each.")] = [],  # noqa: B006
    label: Annotated[list[str], Query(description="NAME=value each.")] = [],  # noqa: B006
    target: str = "",
    platform: str = "",
    network: str = "",
    no_cache: bool = False,
    pull: bool = False,
) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "image.build")
    asked = asking.request_of(
        who,
        refs=ref,
        dockerfile=dockerfile,
        args=asking.pairs(arg, "arg"),
        labels=asking.pairs(label, "label"),
        hidden=asking.hidden_of(request.headers, "X-Build-Secrets"),
        keys=asking.hidden_of(request.headers, "X-Build-Ssh"),
        target=target,
        platform=platform,
        network=network,
        no_cache=no_cache,
        pull=pull,
    )
    await services.start(who, asked, uploads.body(request))
    return Status(202, _shown(await database.read(queries.build_of, who, asked.id)))


@router.post(_LIST, response={202: BuildOut}, summary="Build what an address names, or a Dockerfile that needs no context")
async def build_address(request: HttpRequest, tenant: str, payload: BuildIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "image.build")
    remote = "" if payload.text else asking.remote_of(payload.address, payload.branch, payload.folder)
    asked = asking.request_of(
        who,
        remote=remote,
        refs=payload.refs,
        dockerfile="" if payload.text else payload.dockerfile,
        args=payload.args,
        labels=payload.labels,
        hidden=payload.secrets,
        keys=payload.ssh,
        target=payload.target,
        platform=payload.platform,
        network=payload.network,
        no_cache=payload.no_cache,
        pull=payload.pull,
    )
    await services.start(who, asked, services.text_body(payload.text) if payload.text else None)
    return Status(202, _shown(await database.read(queries.build_of, who, asked.id)))


@router.post(_ONE + "/cancel", response={204: None}, summary="End it; nothing is left of it but its cache")
async def cancel_build(request: HttpRequest, tenant: str, build_id: str) -> Status[None]:
    who = await actor(request, tenant, "image.build")
    build = await database.read(queries.build_of, who, build_id)
    await services.cancel(who, build.build_id)
    return Status(204, None)


@router.delete("/tenants/{tenant}/build-cache", response=BuildCachePrunedOut, summary="Take away the steps that builds left")
async def prune_cache(
    request: HttpRequest,
    tenant: str,
    unused_for: Annotated[str, Query(description="Only what was not used for so long, as 24h.", max_length=40)] = "",
) -> dict[str, Any]:
    who = await actor(request, tenant, "image.prune")
    return await services.prune(who, {"unused-for": [unused_for]} if unused_for else {})


def _shown(build: Build) -> dict[str, Any]:
    return {
        "id": build.build_id,
        "refs": build.tags,
        "state": build.state,
        "error": build.error,
        "image_id": build.image_id,
        "source": build.source,
        "dockerfile": build.dockerfile,
        "words": build.words,
        "actor": build.actor,
        "began_at": datetime.fromtimestamp(build.began_ns / 1e9, UTC),
        "ended_at": datetime.fromtimestamp(build.ended_ns / 1e9, UTC) if build.ended_ns else None,
        "took_s": round(queries.took_s(build), 3),
    }
