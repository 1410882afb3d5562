"""REST: a tenant's networks, and the ports of a container. A create becomes Docker's request (creation.py): the rules are the same."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.containers import ports, projection, publishing
from controlpanel.containers.api import ContainerOut, PortOut, shown, shown_ports
from controlpanel.networks import connecting, creation, members, services
from controlpanel.networks import projection as known
from controlpanel.networks.members import Member
from controlpanel.networks.projection import NetworkView
from controlpanel.tenants import projects
from controlpanel.tenants.rest import actor
from engine.model.network import Pool

router = Router()
_LIST = "/tenants/{tenant}/networks"
_ONE = "/tenants/{tenant}/networks/{network}"
_PRUNE = "/tenants/{tenant}/network-prune"
_PORTS = "/tenants/{tenant}/containers/{name}/ports"


class NetworkMemberOut(Schema):
    container: str
    container_id: str
    interface: str
    ip_address: str
    ipv6_address: str
    mac_address: str
    aliases: list[str]


class NetworkOut(Schema):
    """``builtin``: every tenant has it, and nobody removes it. ``mtu`` 0: the host's."""

    id: str
    name: str
    project: str = Field(description="Empty: none.")
    driver: str
    builtin: bool
    internal: bool
    attachable: bool
    icc: bool
    mtu: int
    subnet: str
    gateway: str
    ip_range: str
    ipv4: bool
    ipv6: bool
    ipv6_subnet: str
    ipv6_gateway: str
    ipv6_range: str
    reserved: dict[str, str]
    options: dict[str, str]
    labels: dict[str, str]
    created_at: datetime


class NetworkWithMembersOut(NetworkOut):
    members: list[NetworkMemberOut] = Field(description="Containers that run in it.")


class NetworkIn(Asked):
    name: str = Field(examples=["backend"], max_length=255)
    subnet: str = Field("", description="Empty: the host chooses.", examples=["172.28.0.0/16"])
    gateway: str = Field("", examples=["172.28.0.1"])
    ip_range: str = Field("", description="Part of the subnet that automatic addresses come from.", examples=["172.28.5.0/24"])
    ipv4: bool = Field(True, description="False, with ipv6: its containers have IPv6 addresses alone.")
    ipv6: bool = Field(False, description="Its containers have IPv6 addresses, too; so they do where ipv6_subnet is named.")
    ipv6_subnet: str = Field("", description="Empty: the host chooses a /64.", examples=["fd00:7::/64"])
    ipv6_gateway: str = Field("", examples=["fd00:7::1"])
    ipv6_range: str = Field("", examples=["fd00:7::1:0/112"])
    reserved: dict[str, str] = Field(
        {}, description="Addresses of either family that nobody gets, by name.", examples=[{"router": "172.28.0.2"}]
    )
    internal: bool = Field(False, description="No way out of it, and none in.")
    attachable: bool = False
    icc: bool = Field(True, description="Its containers reach each other.")
    mtu: int = Field(0, description="0: the host's.", examples=[1400])
    options: dict[str, str] = Field({}, description="Docker's options of the bridge driver.")
    labels: dict[str, str] = Field({}, examples=[{"team": "shop"}])


class ConnectIn(Asked):
    container: str = Field(examples=["web"])
    aliases: list[str] = Field([], examples=[["db"]])
    links: list[str] = Field([], description="NAME:ALIAS: what this container alone calls another.")
    ip_address: str = Field("", description="Empty: the next free one. Of networks with a subnet of one's own alone.")
    ipv6_address: str = Field("", description="The same of IPv6.", examples=["fd00:7::7"])
    mac_address: str = ""
    gw_priority: int = Field(0, description="The default route goes by the network with the greatest.")


class DisconnectIn(Asked):
    container: str
    force: bool = False


class NetworkPruneIn(Asked):
    labels: list[str] = Field([], description="Only with these: name or name=value.")
    created_before: datetime | None = None
    dry_run: bool = Field(False, description="Only say which it would be.")


class NetworksPrunedOut(Schema):
    networks: list[str]


class PortsIn(Asked):
    ports: list[str] = Field(
        description="All that shall be published from now on, as docker run -p has them.", examples=[["8080:80", "127.0.0.1:5353:53/udp"]]
    )


@router.get(_LIST, response=list[NetworkOut], summary="All networks, newest first, then bridge and none")
async def list_networks(request: HttpRequest, tenant: str, project: str = "") -> list[dict[str, Any]]:
    who = await actor(request, tenant, "network.view")
    views = [view for view in await known.networks(who) if not project or projects.name_of(view.labels) == project]
    return [_network(view) for view in views if view.ready]


@router.post(_LIST, response={201: NetworkOut}, summary="Create a network")
async def create_network(request: HttpRequest, tenant: str, payload: NetworkIn) -> Status[dict[str, Any]]:
    who = await actor(request, tenant, "network.create")
    return Status(201, _network(await services.create_network(who, to_docker(payload))))


@router.get(_ONE, response=NetworkWithMembersOut, summary="One network, by name or id, and who is in it")
async def get_network(request: HttpRequest, tenant: str, network: str) -> dict[str, Any]:
    who = await actor(request, tenant, "network.view")
    view = await known.network(who, network)
    return {**_network(view), "members": [_member(member) for member in await members.of(who, view)]}


@router.delete(_ONE, response={204: None}, summary="Remove it; no container may run in it")
async def remove_network(request: HttpRequest, tenant: str, network: str) -> Status[None]:
    who = await actor(request, tenant, "network.remove")
    await services.remove_network(who, network)
    return Status(204, None)


@router.post(_ONE + "/connect", response=ContainerOut, summary="Put a container into it, at once where it runs")
async def connect_container(request: HttpRequest, tenant: str, network: str, payload: ConnectIn) -> dict[str, Any]:
    who = await actor(request, tenant, "network.connect")
    view = await projection.container(who, payload.container)
    await connecting.connect(who, network, view.id, endpoint_to_docker(payload))
    return shown(await projection.container(who, view.id))


@router.post(_ONE + "/disconnect", response=ContainerOut, summary="Take a container out of it, at once where it runs")
async def disconnect_container(request: HttpRequest, tenant: str, network: str, payload: DisconnectIn) -> dict[str, Any]:
    who = await actor(request, tenant, "network.connect")
    view = await projection.container(who, payload.container)
    await connecting.disconnect(who, network, view.id, force=payload.force)
    return shown(await projection.container(who, view.id))


@router.post(_PRUNE, response=NetworksPrunedOut, summary="Remove all that no running container is in")
async def prune_networks(request: HttpRequest, tenant: str, payload: NetworkPruneIn | None = None) -> dict[str, Any]:
    asked = payload or NetworkPruneIn(labels=[], created_before=None, dry_run=False)
    who = await actor(request, tenant, "network.prune")
    before_ns = int(asked.created_before.timestamp() * 1e9) if asked.created_before else time.time_ns()

    def test(view: NetworkView) -> bool:
        return view.created_ns < before_ns and all(_has(view, label) for label in asked.labels)

    if asked.dry_run:
        return {"networks": [view.name for view in await services.prunable(who, test)]}
    return {"networks": await services.prune_networks(who, test)}


@router.get(_PORTS, response=list[PortOut], summary="What of the host leads to its ports")
async def container_ports(request: HttpRequest, tenant: str, name: str) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "container.view")
    return shown_ports(await projection.container(who, name))


@router.put(_PORTS, response=list[PortOut], summary="Other ports, at once where it runs (not in Docker)")
async def change_ports(request: HttpRequest, tenant: str, name: str, payload: PortsIn) -> list[dict[str, Any]]:
    who = await actor(request, tenant, "container.update")
    view = await projection.container(who, name)
    await publishing.publish_ports(who, view.id, ports.bindings(payload.ports))
    return shown_ports(await projection.container(who, view.id))


def to_docker(asked: NetworkIn) -> dict[str, Any]:
    """The body of ``POST /networks/create``."""
    options = dict(asked.options)
    if not asked.icc:
        options[creation.ICC] = "false"
    if asked.mtu:
        options[creation.MTU] = str(asked.mtu)
    ipv6 = {name: address for name, address in asked.reserved.items() if ":" in address}
    ipv4 = {name: address for name, address in asked.reserved.items() if name not in ipv6}
    pools = [
        {"Subnet": asked.subnet, "Gateway": asked.gateway, "IPRange": asked.ip_range, "AuxiliaryAddresses": ipv4},
        {"Subnet": asked.ipv6_subnet, "Gateway": asked.ipv6_gateway, "IPRange": asked.ipv6_range, "AuxiliaryAddresses": ipv6},
    ]
    pools = [pool for pool in pools if any(pool.values())]
    return {
        "Name": asked.name,
        "Internal": asked.internal,
        "Attachable": asked.attachable,
        "EnableIPv4": asked.ipv4,
        "EnableIPv6": asked.ipv6 or bool(asked.ipv6_subnet),
        "IPAM": {"Config": pools},
        "Options": options,
        "Labels": asked.labels,
    }


def endpoint_to_docker(asked: ConnectIn) -> dict[str, Any]:
    """Docker's EndpointConfig."""
    return {
        "IPAMConfig": {"IPv4Address": asked.ip_address, "IPv6Address": asked.ipv6_address},
        "Aliases": asked.aliases,
        "Links": asked.links,
        "MacAddress": asked.mac_address,
        "GwPriority": asked.gw_priority,
    }


def _network(view: NetworkView) -> dict[str, Any]:
    names = ("id", "name", "driver", "internal", "attachable", "icc", "mtu", "options", "labels")
    return {
        **{name: getattr(view, name) for name in names},
        "project": projects.name_of(view.labels),
        "builtin": not view.user_defined,
        **pool_words(view),
        "created_at": datetime.fromtimestamp(view.created_ns / 1e9, UTC),
    }


def pool_words(view: NetworkView) -> dict[str, Any]:
    """What both REST and pages say of its addresses."""
    ipv4, ipv6 = view.pool or Pool(), view.ipv6_pool or Pool()
    return {
        "ipv4": view.pool is not None,
        "subnet": ipv4.subnet,
        "gateway": ipv4.gateway,
        "ip_range": ipv4.ip_range,
        "ipv6": view.ipv6_pool is not None,
        "ipv6_subnet": ipv6.subnet,
        "ipv6_gateway": ipv6.gateway,
        "ipv6_range": ipv6.ip_range,
        "reserved": {**(view.ipam.get("auxiliary") or {}), **(view.ipam.get("ipv6_auxiliary") or {})},
    }


def _member(member: Member) -> dict[str, Any]:
    endpoint = member.endpoint
    return {
        "container": member.name,
        "container_id": member.view.id,
        "interface": endpoint.interface,
        "ip_address": endpoint.ip_address,
        "ipv6_address": endpoint.ipv6_address,
        "mac_address": endpoint.mac_address,
        "aliases": list(endpoint.spec.aliases),
    }


def _has(view: NetworkView, label: str) -> bool:
    name, equals, value = label.partition("=")
    return name in view.labels and (not equals or view.labels[name] == value)
