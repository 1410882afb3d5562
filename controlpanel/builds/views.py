"""Pages: the builds of a tenant, one of them with its log, and the form that begins one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from controlpanel.base import database
from controlpanel.builds import logs, queries, services
from controlpanel.builds.models import Build
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import act, page, show, tenant_path

_FIRST = 256 << 10  # bytes of a log that the page brings along


@page("image.view")
async def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    builds = [_row(build) for build in await database.read(queries.builds_of, actor)]
    return await show(request, actor, "builds/list.html", {"nav": "builds", "builds": builds})


@page("image.view")
async def one(request: HttpRequest, actor: Actor, build_id: str) -> HttpResponse:
    build = await database.read(queries.build_of, actor, build_id)
    data = await database.read(logs.read, build.build_id, 0, _FIRST)
    context = {
        "nav": "builds",
        "build": _row(build),
        "log": data.decode(errors="replace"),
        "offset": len(data),
        "words": [(name, _said(value)) for name, value in build.words.items()],
        "run_command": f"docker run --rm -it {build.tags[0] if build.tags else build.image_id.removeprefix('sha256:')[:12]}",
    }
    return await show(request, actor, "builds/one.html", context)


@page("image.build")
async def form(request: HttpRequest, actor: Actor) -> HttpResponse:
    context = {"nav": "builds", "command": "docker build -t NAME ."}
    return await show(request, actor, "builds/new.html", context)


@page("image.build")
async def _cancel(request: HttpRequest, actor: Actor, build_id: str) -> HttpResponse:
    assert actor.tenant is not None
    build = await database.read(queries.build_of, actor, build_id)
    done = _("The build is cancelled.")
    return await act(
        request, services.cancel(actor, build.build_id), done=done, to=tenant_path(actor.tenant.name, "builds", build.build_id)
    )


@page("image.prune")
async def _prune(request: HttpRequest, actor: Actor) -> HttpResponse:
    assert actor.tenant is not None
    return await act(
        request, services.prune(actor, {}), done=_("The build cache is empty."), to=tenant_path(actor.tenant.name, "builds") + "/"
    )


cancel = require_POST(_cancel)
prune = require_POST(_prune)


def _said(value: Any) -> str:
    """Of a switch nothing."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else ""


def _row(build: Build) -> dict[str, Any]:
    return {
        "id": build.build_id,
        "short_id": build.build_id[:12],
        "refs": build.tags,
        "name": build.tags[0] if build.tags else build.build_id[:12],
        "state": build.state,
        "error": build.error,
        "image_id": build.image_id,
        "image": build.tags[0] if build.tags else build.image_id.removeprefix("sha256:")[:12],
        "source": build.source,
        "dockerfile": build.dockerfile,
        "actor": build.actor,
        "door": build.door,
        "began_at": datetime.fromtimestamp(build.began_ns / 1e9, UTC),
        "took": f"{queries.took_s(build):.1f} s" if build.ended_ns else "",
        "is_running": build.state == Build.RUNNING,
    }
