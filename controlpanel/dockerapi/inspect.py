"""``GET /containers/{id}/json``: everything about one container, serialised once for each version of it."""

from __future__ import annotations

from typing import Any

import orjson

from controlpanel.containers import health, projection, tmpfs
from controlpanel.containers.options import CONTAINER
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import networks, shapes, sizes
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.words import rfc3339
from controlpanel.execs import projection as execs
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.model.container import HealthState, Status


async def container(exchange: Exchange) -> None:
    require(exchange.actor, "container.view")
    view = await projection.container(exchange.actor, exchange.params["id"])
    tenant = exchange.actor.tenant
    assert tenant is not None
    members = await _beside(exchange.actor, view, size=exchange.flag("size"))
    if members:
        await exchange.reply_json({**describe(view, tenant.name), **members})
        return
    data = view.cache.get("inspect")
    if data is None:
        data = view.cache["inspect"] = orjson.dumps(describe(view, tenant.name), option=orjson.OPT_APPEND_NEWLINE)
    await exchange.reply_bytes(data)


async def document(actor: Actor, view: ContainerView) -> dict[str, Any]:
    """What the client prints."""
    return {**describe(view, view.spec.tenant), **await _beside(actor, view, size=False)}


async def _beside(actor: Actor, view: ContainerView, *, size: bool) -> dict[str, Any]:
    """Members that no version of the row has: execs that run, the last probes, sizes when asked for."""
    exec_ids, probes = await execs.active(actor, view.id), await health.probes(view)
    members: dict[str, Any] = (await sizes.measured(actor, [view])).get(view.id) or {} if size else {}
    if exec_ids:
        members["ExecIDs"] = exec_ids
    if probes is not None:
        members["State"] = {**state(view), "Health": health_of(probes)}
    return members


def describe(view: ContainerView, tenant: str) -> dict[str, Any]:
    spec = view.spec
    return {
        "Id": view.id,
        "Created": rfc3339(view.created_at_ns),
        "Path": spec.args[0] if spec.args else "",
        "Args": list(spec.args[1:]),
        "State": state(view),
        "Image": view.image_id,
        # where the host keeps these is not the tenant's to know
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{view.name}",
        "RestartCount": view.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": shapes.host_config_of(view.docker_host_config, network_mode=spec.network_mode),
        "GraphDriver": {"Data": {}, "Name": "overlay2"},
        "Mounts": tmpfs.mount_points(view.docker_host_config),
        "Config": shapes.config_of(view.docker_config, container_id=view.id, image=view.image),
        "NetworkSettings": network_settings(view, tenant),
    }


def state(view: ContainerView) -> dict[str, Any]:
    known = view.state
    return {
        "Status": view.status.value,
        "Running": view.is_running,
        "Paused": view.status is Status.PAUSED,
        "Restarting": view.status is Status.RESTARTING,
        "OOMKilled": known.oom_killed,
        "Dead": view.status is Status.DEAD,
        "Pid": known.pid,
        "ExitCode": known.exit_code,
        "Error": known.error,
        "StartedAt": rfc3339(known.started_at_ns),
        "FinishedAt": rfc3339(known.finished_at_ns),
    }


def health_of(known: HealthState) -> dict[str, Any]:
    """Docker's Health, in moby's order of members."""
    log = [
        {"Start": rfc3339(probe.started_at_ns), "End": rfc3339(probe.finished_at_ns), "ExitCode": probe.exit_code, "Output": probe.output}
        for probe in known.log
    ]
    return {"Status": known.status, "FailingStreak": known.failing_streak, "Log": log}


def endpoint(view: ContainerView, tenant: str) -> dict[str, Any]:
    """Of the one network a container has."""
    known, up, started = view.state, view.state.has_process, view.state.run > 0
    address = known.ip_address if up else ""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": known.mac_address if up else "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": networks.network_id(tenant, view.spec.network_mode) if started else "",
        "EndpointID": networks.endpoint_id(view.id) if up else "",
        "Gateway": known.gateway if up else "",
        "IPAddress": address,
        "IPPrefixLen": known.prefix_len if up else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }


def network_settings(view: ContainerView, tenant: str) -> dict[str, Any]:
    """Who shares another container's network has none to show."""
    point, bridge = endpoint(view, tenant), view.spec.network_mode == "bridge"
    return {
        "Bridge": "",
        "SandboxID": networks.endpoint_id(f"sandbox {view.id}") if view.state.has_process else "",
        "SandboxKey": "",
        "Ports": {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        # of the default bridge only, for clients from before networks had names
        "EndpointID": point["EndpointID"] if bridge else "",
        "Gateway": point["Gateway"],
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": point["IPAddress"],
        "IPPrefixLen": point["IPPrefixLen"],
        "IPv6Gateway": "",
        "MacAddress": point["MacAddress"],
        "Networks": endpoints(view, tenant),
    }


def endpoints(view: ContainerView, tenant: str) -> dict[str, Any]:
    """By network; none of its own for who shares another container's."""
    mode = view.spec.network_mode
    return {} if mode.startswith(CONTAINER) else {mode: endpoint(view, tenant)}
