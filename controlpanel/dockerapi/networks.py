"""The networks a tenant has in this release: its default bridge, and none."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from controlpanel.containers import projection
from controlpanel.containers.network import network_id
from controlpanel.dockerapi import words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument, NotFound

_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
NAMES = ("bridge", "none")


def endpoint_id(container_id: str) -> str:
    return hashlib.sha256(f"slipway endpoint {container_id}".encode()).hexdigest()


async def list_all(exchange: Exchange) -> None:
    require(exchange.actor, "tenant.view")
    given = words.filters(exchange.text("filters"), _FILTERS)
    tenant = exchange.actor.tenant
    assert tenant is not None
    await exchange.reply_json([_summary(tenant, name, {}) for name in NAMES if _matches(tenant.name, name, given)])


async def inspect(exchange: Exchange) -> None:
    require(exchange.actor, "tenant.view")
    tenant, wanted = exchange.actor.tenant, exchange.params["id"]
    assert tenant is not None
    scope = exchange.text("scope")
    for name in NAMES if scope in ("", "local") else ():
        if wanted == name or network_id(tenant.name, name).startswith(wanted):
            await exchange.reply_json(_summary(tenant, name, await _members(exchange, name)))
            return
    raise NotFound(f"network {wanted} not found")


async def _members(exchange: Exchange, name: str) -> dict[str, Any]:
    return {
        view.id: {
            "Name": view.name,
            "EndpointID": endpoint_id(view.id),
            "MacAddress": view.state.mac_address,
            "IPv4Address": f"{view.state.ip_address}/{view.state.prefix_len}" if view.state.ip_address else "",
            "IPv6Address": "",
        }
        for view in await projection.containers(exchange.actor)
        if view.state.has_process and view.spec.network_mode == name
    }


def _matches(tenant: str, name: str, given: words.Filters) -> bool:
    number = network_id(tenant, name)
    if any(kind not in ("builtin", "custom") for kind in given.get("type", ())):
        raise InvalidArgument(f"invalid filter: 'type'='{given['type'][0]}'")
    tests = {
        "name": any(value in name for value in given.get("name", ())),
        "id": any(number.startswith(value) for value in given.get("id", ())),
        "driver": ("null" if name == "none" else name) in given.get("driver", ()),
        "scope": "local" in given.get("scope", ()),
        "type": "builtin" in given.get("type", ()),
        "label": False,
        "dangling": not words.one_boolean(given, "dangling", False),
    }
    return all(tests[key] for key, values in given.items() if values)


def _summary(tenant: Tenant, name: str, members: dict[str, Any]) -> dict[str, Any]:
    bridge = name == "bridge"
    return {
        "Name": name,
        "Id": network_id(tenant.name, name),
        "Created": words.rfc3339(int(tenant.created_at.timestamp()) * 1_000_000_000),
        "Scope": "local",
        "Driver": "bridge" if bridge else "null",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": _pools(tenant) if bridge else None},
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": members,
        "Options": {"com.docker.network.bridge.default_bridge": "true"} if bridge else {},
        "Labels": {},
    }


def _pools(tenant: Tenant) -> list[dict[str, str]]:
    """As the host gave it to the tenant; empty until the first container."""
    place = next(iter(tenant.hosts.values()), None)
    if not place or not place.get("subnet"):
        return []
    subnet = ipaddress.ip_network(place["subnet"])
    return [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]
