"""REST: a tenant's containers. A create becomes Docker's request (creation.py), so the rules and the sentences are the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponseBase
from ninja import Query, Router, Schema, Status
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.containers import endpoints, log_search, logs, networking, ports, projection, services
from controlpanel.containers.creation import ContainerIn, to_docker
from controlpanel.containers.projection import ContainerView
from controlpanel.networks.builtin import BRIDGE, network_id
from controlpanel.tenants.rest import actor
from engine.model import codec
from engine.model.network import EndpointState
from engine.model.signals import signal_number

router = Router()
_LIST = "/tenants/{tenant}/containers"
_ONE = "/tenants/{tenant}/containers/{name}"


class PortOut(Schema):
    """``host_ip`` empty: every address of the host. ``host_port`` 0: any free one, when it starts."""

    container_port: int
    protocol: Literal["tcp", "udp", "sctp"]
    host_ip: str
    host_port: int
    host_port_end: int


class EndpointOut(Schema):
    """Its part in a network; addresses are empty unless it runs."""

    network: str
    network_id: str
    interface: str
    ip_address: str
    ipv6_address: str
    mac_address: str
    gateway: str
    ipv6_gateway: str
    aliases: list[str]


class ContainerOut(Schema):
    """Limits of 0 are no limits; times are null until they have come."""

    id: str
    name: str
    project: str = Field(description="Empty: none.")
    image: str
    image_id: str
    command: list[str]
    status: Literal["created", "running", "paused", "restarting", "exited", "dead"]
    desired: Literal["created", "running", "stopped", "restarting", "removed"]
    exit_code: int
    oom_killed: bool
    error: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    network: str
    ip_address: str
    networks: list[EndpointOut]
    ports: list[PortOut]
    memory_bytes: int
    nano_cpus: int
    pids_limit: int
    layer_size_bytes: int = Field(description="What it may write beside its volumes; 0: as much as the host allows.")
    labels: dict[str, str]
    tty: bool
    auto_remove: bool
    restart_policy: Literal["no", "always", "unless-stopped", "on-failure"]
    restart_max_retries: int
    restart_when_unhealthy: bool
    restart_count: int
    health: Literal["none", "starting", "healthy", "unhealthy"]
    host: str


class CreatedOut(ContainerOut):
    warnings: list[str]


class StopIn(Asked):
    signal: str = Field("", description="Empty: the image's, or SIGTERM.")
    timeout_s: int | None = Field(None, description="Until SIGKILL; null: the container's own; negative: never.")


class KillIn(Asked):
    signal: str = "SIGKILL"


class LineOut(Schema):
    container: str
    time: datetime
    stream: Literal["stdout", "stderr"]
    text: str


class FoundOut(Schema):
    """``complete``: everything was looked at; else ``ended_by`` says what ended it, and ``since=searched_until`` goes on."""

    lines: list[LineOut]
    complete: bool
    ended_by: Literal["", "limit", "time", "bytes"]
    searched_bytes: int
    searched_until: datetime | None


class UsageOut(Schema):
    log_bytes: int


@router.get(_LIST, response=list[ContainerOut], summary="All containers, newest first")
async def list_containers(request: HttpRequest, tenant: str, status: str = "", image: str = "", project: str = "") -> list[dict[str, Any]]:
    who = await actor(request, tenant, "container.view")
    views = [view for view in await projection.containers(who) if not project or view.project == project]
    return [shown(view) for view in views if (not status or view.status.value == status) and (not image or view.image == image)]


@router.post(_LIST, response={201: CreatedOut}, summary="Create a container, and start it if asked")
async def create_container(request: HttpRequest, tenant: str, payload: ContainerIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "container.create")
    made = await services.create_container(who, to_docker(payload), name=payload.name)
    if payload.start:
        await services.start_container(who, made.id)
    view = await projection.container(who, made.id)
    return Status(201, {**shown(view), "warnings": list(made.warnings)})


@router.get(_ONE, response=ContainerOut, summary="One container, by name or id")
async def get_container(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    return shown(await projection.container(who, name))


@router.post(_ONE + "/start", response=ContainerOut, summary="Start it; nothing when it runs")
async def start_container(request: HttpRequest, tenant: str, name: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.start")
    await services.start_container(who, name)
    return shown(await projection.container(who, name))


@router.post(_ONE + "/stop", response=ContainerOut, summary="Stop it; answers when it has ended")
async def stop_container(request: HttpRequest, tenant: str, name: str, payload: StopIn | None = None) -> dict[str, Any]:
    who = await actor(request, tenant, "container.stop")
    view = await projection.container(who, name)
    asked = payload or StopIn()
    await services.stop_container(who, view.id, signal=asked.signal, timeout_s=asked.timeout_s)
    return shown(await projection.container(who, view.id)) if not view.auto_remove else shown(view)


@router.post(_ONE + "/kill", response={204: None}, summary="Send it a signal")
async def kill_container(request: HttpRequest, tenant: str, name: str, payload: KillIn | None = None) -> Status[None]:
    who = await actor(request, tenant, "container.kill")
    await services.kill_container(who, name, signal_number((payload or KillIn()).signal))
    return Status(204, None)


@router.delete(_ONE, response={204: None}, summary="Remove it; a running one only with force")
async def remove_container(request: HttpRequest, tenant: str, name: str, force: bool = False) -> Status[None]:
    who = await actor(request, tenant, "container.remove")
    await services.remove_container(who, name, force=force)
    return Status(204, None)


@router.get(_ONE + "/logs", summary="Its log as plain text; with follow the answer ends with the container")
async def container_logs(
    request: HttpRequest,
    tenant: str,
    name: str,
    stdout: bool = True,
    stderr: bool = True,
    follow: bool = False,
    timestamps: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    tail: int = -1,
) -> HttpResponseBase:
    who = await actor(request, tenant, "container.view")
    wanted = logs.Wanted(
        stdout=stdout,
        stderr=stderr,
        follow=follow,
        timestamps=timestamps,
        since_ns=_time_ns(since),
        until_ns=_time_ns(until),
        tail=max(-1, tail),
    )
    return await logs.as_text(who, name, wanted)


@router.get("/tenants/{tenant}/logs", response=FoundOut, summary="Search the logs of several containers, merged by time")
async def search_logs(
    request: HttpRequest,
    tenant: str,
    pattern: Annotated[str, Query(description="A regular expression (Python's re).")],
    container: Annotated[list[str] | None, Query(description="Names or ids; none: all containers that keep a log.")] = None,
    ignore_case: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    question = log_search.Question(
        pattern=pattern,
        containers=container or (),
        ignore_case=ignore_case,
        stdout=stdout,
        stderr=stderr,
        since_ns=_time_ns(since),
        until_ns=_time_ns(until),
        limit=limit,
    )
    lines, done = await log_search.search(who, question)
    shown = [
        {"container": line["name"], "time": _moment(line["time_ns"]), "stream": line["stream"], "text": line["text"]} for line in lines
    ]
    looked = {"complete": done["complete"], "ended_by": done["reason"], "searched_bytes": done["bytes"]}
    return {"lines": shown, **looked, "searched_until": _moment(done["looked_until_ns"])}


@router.get("/tenants/{tenant}/usage", response=UsageOut, summary="What the tenant takes on the host's disk")
async def usage(request: HttpRequest, tenant: str) -> dict[str, Any]:
    return {"log_bytes": await log_search.bytes_used(await actor(request, tenant, "tenant.view"))}


def shown(view: ContainerView) -> dict[str, Any]:
    spec, state = view.spec, view.state
    return {
        "id": view.id,
        "name": view.name,
        "project": view.project,
        "image": view.image,
        "image_id": view.image_id,
        "command": list(spec.args),
        "status": view.status.value,
        "desired": view.desired,
        "exit_code": state.exit_code,
        "oom_killed": state.oom_killed,
        "error": state.error,
        "created_at": _moment(view.created_at_ns),
        "started_at": _moment(state.started_at_ns),
        "finished_at": _moment(state.finished_at_ns),
        "network": networking.shown_mode(str(view.docker_host_config.get("NetworkMode") or ""), spec.network_mode),
        "ip_address": state.ip_address or next((each.ip_address for each in endpoints.current(spec, state) if each.ip_address), ""),
        "networks": [_endpoint(view, each) for each in endpoints.current(spec, state)],
        "ports": shown_ports(view),
        "memory_bytes": spec.resources.memory_bytes,
        "nano_cpus": spec.resources.nano_cpus,
        "pids_limit": spec.resources.pids_limit,
        "layer_size_bytes": spec.layer_size_bytes,
        "labels": spec.labels,
        "tty": spec.tty,
        "auto_remove": spec.auto_remove,
        "restart_policy": spec.restart.name,
        "restart_max_retries": spec.restart.maximum_retries,
        "restart_when_unhealthy": spec.restart.when_unhealthy,
        "restart_count": state.restart_count,
        "health": state.health.status if state.health else "none",
        "host": view.host,
    }


def shown_ports(view: ContainerView) -> list[dict[str, Any]]:
    return [codec.to_json(binding) for binding in ports.current(view.spec, view.state)]


def _endpoint(view: ContainerView, endpoint: EndpointState) -> dict[str, Any]:
    number = endpoint.spec.network_id
    return {
        "network": endpoints.network_name(number, view.network_names),
        "network_id": number or network_id(view.spec.tenant, BRIDGE),
        "interface": endpoint.interface,
        "ip_address": endpoint.ip_address,
        "ipv6_address": endpoint.ipv6_address,
        "mac_address": endpoint.mac_address,
        "gateway": endpoint.gateway,
        "ipv6_gateway": endpoint.ipv6_gateway,
        "aliases": list(endpoint.spec.aliases),
    }


def _moment(time_ns: int) -> datetime | None:
    return datetime.fromtimestamp(time_ns / 1e9, UTC) if time_ns else None


def _time_ns(moment: datetime | None) -> int:
    """A time without a zone is UTC."""
    if moment is None:
        return 0
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000_000)
