"""REST: restart, rename, health and prune of containers; waiting for their end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.containers import health, projection, pruning, restarting, services
from controlpanel.containers.api import ContainerOut, StopIn, shown
from controlpanel.containers.projection import ContainerView
from controlpanel.tenants.rest import actor
from engine.errors import Unavailable

router = Router()
_ONE = "/tenants/{tenant}/containers/{name}"
_WAIT_MAX_S = 600.0


class RenameIn(Asked):
    name: str = Field(examples=["web-2"])


class ProbeOut(Schema):
    started_at: datetime
    finished_at: datetime
    exit_code: int
    output: str


class HealthOut(Schema):
    """``probes``: the last five, oldest first."""

    status: Literal["none", "starting", "healthy", "unhealthy"]
    failing_streak: int = 0
    probes: list[ProbeOut] = []


class ContainerPruneIn(Asked):
    labels: dict[str, str] = Field({}, description="Only containers with all of these.")
    created_before: datetime | None = None
    dry_run: bool = Field(False, description="Only say which it would be.")


class ContainersPrunedOut(Schema):
    ids: list[str]
    bytes: int


class EndedOut(Schema):
    exit_code: int
    error: str


@router.post(_ONE + "/restart", response=ContainerOut, summary="Stop it and start it again; a stopped one is started")
async def restart_container(request: HttpRequest, tenant: str, name: str, payload: StopIn | None = None) -> dict[str, Any]:
    who = await actor(request, tenant, "container.restart")
    asked = payload or StopIn(signal="", timeout_s=None)
    view = await projection.container(who, name)
    await restarting.restart_container(who, view.id, signal=asked.signal, timeout_s=asked.timeout_s)
    return shown(await projection.container(who, view.id))


@router.post(_ONE + "/rename", response=ContainerOut, summary="Give it another name")
async def rename_container(request: HttpRequest, tenant: str, name: str, payload: RenameIn) -> dict[str, Any]:
    who = await actor(request, tenant, "container.rename")
    view = await projection.container(who, name)
    await services.rename_container(who, view.id, payload.name)
    return shown(await projection.container(who, view.id))


@router.get(_ONE + "/health", response=HealthOut, summary="What its health check said")
async def container_health(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    found = await health.probes(await projection.container(who, name))
    if found is None:
        return {"status": "none"}
    probes = [
        {
            "started_at": _moment(probe.started_at_ns),
            "finished_at": _moment(probe.finished_at_ns),
            "exit_code": probe.exit_code,
            "output": probe.output,
        }
        for probe in found.log
    ]
    return {"status": found.status, "failing_streak": found.failing_streak, "probes": probes}


@router.post(_ONE + "/wait", response=EndedOut, summary="Answers when it has ended; 503 when it has not in time")
async def wait_container(
    request: HttpRequest,
    tenant: str,
    name: str,
    condition: Literal["not-running", "next-exit", "removed"] = "not-running",
    timeout_s: float = 60,
) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    ended = await services.wait(who, name, condition)
    try:
        async with asyncio.timeout(min(max(0.0, timeout_s), _WAIT_MAX_S)):
            state = await ended
    except TimeoutError:
        raise Unavailable(f"container {name} has not ended yet") from None
    finally:
        ended.cancel()
    return {"exit_code": state.exit_code, "error": state.error}


@router.post("/tenants/{tenant}/container-prune", response=ContainersPrunedOut, summary="Remove all containers that do not run")
async def prune_containers(request: HttpRequest, tenant: str, payload: ContainerPruneIn | None = None) -> dict[str, Any]:
    asked = payload or ContainerPruneIn(labels={}, created_before=None, dry_run=False)
    who = await actor(request, tenant, "container.prune")

    def test(view: ContainerView) -> bool:
        before = asked.created_before
        if before is not None and _moment(view.created_at_ns) > (before if before.tzinfo else before.replace(tzinfo=UTC)):
            return False
        return all(view.spec.labels.get(name) == value for name, value in asked.labels.items())

    if asked.dry_run:
        return {"ids": [view.id for view in await pruning.prunable(who, test)], "bytes": 0}
    done = await pruning.prune(who, test)
    return {"ids": list(done.ids), "bytes": done.bytes}


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC)
