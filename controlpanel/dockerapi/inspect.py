"""``GET /containers/{id}/json``: everything about one container, serialised once for each version of it."""

from __future__ import annotations

from typing import Any, Final

import orjson

from controlpanel.containers import endpoints, health, mounts, networking, ports, projection, tmpfs
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import shapes, sizes
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.words import rfc3339
from controlpanel.execs import projection as execs
from controlpanel.networks.builtin import BRIDGE, HOST, NONE, network_id
from controlpanel.networks.members import endpoint_id
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.model.container import HealthState, Status
from engine.model.network import DEFAULT, EndpointSpec, EndpointState

_WITHOUT_ID_AS_ALIAS: Final = (1, 45)  # before this version the short id was among the aliases, and docker-compose 1 looks for it there
NETWORKED: Final = (BRIDGE, "user")  # modes in which a container has ports of its own


async def container(exchange: Exchange) -> None:
    require(exchange.actor, "container.view")
    view = await projection.container(exchange.actor, exchange.params["id"])
    tenant = exchange.actor.tenant
    assert tenant is not None
    members = await _beside(exchange.actor, view, size=exchange.flag("size"))
    if exchange.version < _WITHOUT_ID_AS_ALIAS:
        members["NetworkSettings"] = _with_id_as_alias(view, network_settings(view, tenant.name))
    if members:
        await exchange.reply_json({**describe(view, tenant.name), **members})
        return
    data = view.cache.get("inspect")
    if data is None:
        data = orjson.dumps(describe(view, tenant.name), option=orjson.OPT_APPEND_NEWLINE)
        if not any(each.spec.links for each in endpoints.current(view.spec, view.state)):  # they show others' names, which may change
            view.cache["inspect"] = data
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
        "HostConfig": host_config(view),
        "GraphDriver": {"Data": {}, "Name": "overlay2"},
        "Mounts": [*mounts.points(spec.mounts), *tmpfs.mount_points(view.docker_host_config)],
        "Config": shapes.config_of(view.docker_config, container_id=view.id, image=view.image),
        "NetworkSettings": network_settings(view, tenant),
    }


def host_config(view: ContainerView) -> dict[str, Any]:
    """Links are the default bridge's, spelled as moby keeps them; those of another network are that one's to show."""
    given = view.docker_host_config
    mode = networking.shown_mode(str(given.get("NetworkMode") or ""), view.spec.network_mode)
    shown = shapes.host_config_of(given, network_mode=mode)
    point = next((each.spec for each in endpoints.current(view.spec, view.state) if each.spec.network_id == DEFAULT), None)
    links = []
    for number, _colon, alias in (link.partition(":") for link in (point.links if point else ())):
        if other := projection.peek(view.tenant_id, number):
            links.append(f"/{other.name}:/{view.name}/{alias}")
    return {**shown, "Links": links or None}


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


def network_settings(view: ContainerView, tenant: str) -> dict[str, Any]:
    """Who shares another container's network has none to show."""
    point = next((each for each in endpoints.current(view.spec, view.state) if each.spec.network_id == DEFAULT), None)
    bridge = endpoint(view, point, tenant) if point else {}
    return {
        "Bridge": "",
        "SandboxID": endpoint_id(view.id, "sandbox") if view.state.has_process else "",
        "SandboxKey": "",
        "Ports": port_map(view),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        # of the default bridge only, for clients from before networks had names
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "IPv6Gateway": "",
        "MacAddress": bridge.get("MacAddress", ""),
        "Networks": networks_of(view, tenant),
    }


def _with_id_as_alias(view: ContainerView, shown: dict[str, Any]) -> dict[str, Any]:
    for name, point in shown["Networks"].items():
        if name not in (BRIDGE, HOST, NONE):
            point["Aliases"] = list(dict.fromkeys([*(point["Aliases"] or ()), view.id[:12], view.spec.hostname or view.id[:12]]))
    return shown


def port_map(view: ContainerView) -> dict[str, list[dict[str, str]] | None]:
    """Of one that runs in a network of its own."""
    if not view.state.has_process or view.spec.network_mode not in NETWORKED:
        return {}
    return ports.port_map(view.docker_config, ports.current(view.spec, view.state))


def networks_of(view: ContainerView, tenant: str) -> dict[str, Any]:
    """By name; none of its own for who shares another container's."""
    spec = view.spec
    if spec.network_mode in (HOST, NONE):
        return {spec.network_mode: endpoint(view, EndpointState(spec=EndpointSpec(network_id=spec.network_mode)), tenant)}
    return {
        endpoints.network_name(each.spec.network_id, view.network_names): endpoint(view, each, tenant)
        for each in sorted(
            endpoints.current(spec, view.state), key=lambda each: endpoints.network_name(each.spec.network_id, view.network_names)
        )
    }


def network_ids(view: ContainerView, tenant: str) -> dict[str, str]:
    """Of its networks, by name; "" before its first start."""
    return {name: point["NetworkID"] for name, point in networks_of(view, tenant).items()}


def endpoint(view: ContainerView, point: EndpointState, tenant: str) -> dict[str, Any]:
    """One EndpointSettings. Where it is known by names, moby says so since it was started or connected."""
    spec, started = point.spec, view.state.run > 0
    named = spec.network_id not in (DEFAULT, HOST, NONE) and (started or spec not in view.spec.networks)
    up = view.state.has_process and (bool(point.ip_address or point.ipv6_address) or spec.network_id in (HOST, NONE))
    number = spec.network_id if spec.network_id not in (DEFAULT, HOST, NONE) else network_id(tenant, spec.network_id or BRIDGE)
    return {
        **endpoints.to_docker(spec, _linked(view, spec)),
        "MacAddress": point.mac_address if up else "",
        "DriverOpts": None,
        "GwPriority": spec.gw_priority,
        "NetworkID": number if started else "",
        "EndpointID": endpoint_id(view.id, number) if up else "",
        "Gateway": point.gateway if up else "",
        "IPAddress": point.ip_address if up else "",
        "IPPrefixLen": point.prefix_len if up else 0,
        "IPv6Gateway": point.ipv6_gateway if up else "",
        "GlobalIPv6Address": point.ipv6_address if up else "",
        "GlobalIPv6PrefixLen": point.ipv6_prefix_len if up else 0,
        "DNSNames": endpoints.names(view.spec, spec, view.name) if named else None,
    }


def _linked(view: ContainerView, spec: EndpointSpec) -> dict[str, str]:
    """Names of the containers that links lead to."""
    numbers = [link.partition(":")[0] for link in spec.links]
    found = {number: projection.peek(view.tenant_id, number) for number in numbers}
    return {number: other.name for number, other in found.items() if other}
