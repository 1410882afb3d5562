"""``/networks``: Go's types are checked here; what the words mean, and what we do not do, in the app networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from controlpanel.containers import projection as containers
from controlpanel.dockerapi import schema, shapes, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.schema import Kind
from controlpanel.networks import connecting, members, projection, services
from controlpanel.networks.builtin import BRIDGE
from controlpanel.networks.members import Member
from controlpanel.networks.projection import NetworkView
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument, NotFound
from engine.model.network import Pool

Test = Callable[[NetworkView], bool]

_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_KINDS: Final = ("builtin", "custom")

_POOL: Final[dict[str, Kind]] = {
    "Subnet": schema.string,
    "IPRange": schema.string,
    "Gateway": schema.string,
    "AuxiliaryAddresses": schema.string_map,
}


def _pools(value: Any, path: str) -> list[dict[str, Any]]:
    items = schema.objects("[]network.IPAMConfig", "network.IPAMConfig")(value, path)
    return [schema.decode(_POOL, item, f"{path}.{index}", "network.IPAMConfig") for index, item in enumerate(items)]


_IPAM: Final[dict[str, Kind]] = {"Driver": schema.string, "Options": schema.string_map, "Config": _pools}
_CREATE: Final[dict[str, Kind]] = {
    "Name": schema.string,
    "Driver": schema.string,
    "Scope": schema.string,
    "EnableIPv4": schema.boolean,
    "EnableIPv6": schema.boolean,
    "IPAM": schema.struct(_IPAM, "network.IPAM"),
    "Internal": schema.boolean,
    "Attachable": schema.boolean,
    "Ingress": schema.boolean,
    "ConfigOnly": schema.boolean,
    "ConfigFrom": schema.struct({"Network": schema.string}, "network.ConfigReference"),
    "Options": schema.string_map,
    "Labels": schema.string_map,
}
_CONNECT: Final[dict[str, Kind]] = {
    "Container": schema.string,
    "EndpointConfig": schema.struct(shapes.ENDPOINT, "network.EndpointSettings"),
}
_DISCONNECT: Final[dict[str, Kind]] = {"Container": schema.string, "Force": schema.boolean}


# -- reads -------------------------------------------------------------------------------------------


async def list_all(exchange: Exchange) -> None:
    require(exchange.actor, "network.view")
    given = words.filters(exchange.text("filters"), _FILTERS)
    tests = await _tests(exchange, given)
    views = await projection.networks(exchange.actor)
    await exchange.reply_json([shape(view) for view in views if view.ready and all(test(view) for test in tests)])


async def inspect(exchange: Exchange) -> None:
    require(exchange.actor, "network.view")
    name = exchange.params["id"]
    if exchange.text("scope") not in ("", "local"):
        raise projection.no_such_network(name)
    view = await projection.network(exchange.actor, name)
    await exchange.reply_json(shape(view, await members.of(exchange.actor, view)))


async def _tests(exchange: Exchange, given: words.Filters) -> list[Test]:
    """One for each filter; a network must pass all, and one value of each is enough."""
    used = await members.used(exchange.actor) if given.get("dangling") else set()
    return [_test(name, values, used) for name, values in given.items() if values]


def _test(name: str, values: list[str], used: set[str]) -> Test:
    match name:
        case "name":
            patterns = [words.pattern(name, value) for value in values]
            return lambda view: view.name in values or any(pattern.search(view.name) for pattern in patterns)
        case "id":
            return lambda view: any(value in view.id for value in values)
        case "driver":
            return lambda view: view.driver in values
        case "scope":
            return lambda view: "local" in values
        case "label":
            return lambda view: words.labels_match(values, view.labels)
        case "type":
            if unknown := [value for value in values if value not in _KINDS]:
                raise InvalidArgument(f"invalid filter: 'type'='{unknown[0]}'")
            return lambda view: _KINDS[view.user_defined] in values
        case _:
            dangling = _dangling(values)
            return lambda view: dangling is (view.user_defined and view.id not in used)


def _dangling(values: list[str]) -> bool:
    if len(values) != 1 or values[0] not in ("1", "true", "0", "false"):
        raise InvalidArgument('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
    return values[0] in ("1", "true")


def shape(view: NetworkView, inside: list[Member] | None = None) -> dict[str, Any]:
    """Docker's Network, in moby's order of members."""
    return {
        "Name": view.name,
        "Id": view.id,
        "Created": words.rfc3339(view.created_ns),
        "Scope": "local",
        "Driver": view.driver,
        "EnableIPv4": view.pool is not None,
        "EnableIPv6": view.ipv6_pool is not None,
        "IPAM": {"Driver": "default", "Options": view.ipam.get("options"), "Config": _config(view)},
        "Internal": view.internal,
        "Attachable": view.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {member.view.id: _member(member) for member in inside or ()},
        "Options": view.options,
        "Labels": view.labels,
    }


def _config(view: NetworkView) -> list[dict[str, Any]] | None:
    """The default bridge's is empty until the host has made a place for the tenant."""
    pools = ((view.pool, "auxiliary"), (view.ipv6_pool, "ipv6_auxiliary"))
    found = [_family(pool, view.ipam.get(auxiliary)) for pool, auxiliary in pools if pool and pool.subnet]
    if not found:
        return [] if view.name == BRIDGE else None
    return [*found, *view.ipam.get("ignored", ())]


def _family(pool: Pool, auxiliary: dict[str, str] | None) -> dict[str, Any]:
    given = {"Subnet": pool.subnet, "IPRange": pool.ip_range, "Gateway": pool.gateway, "AuxiliaryAddresses": auxiliary}
    return {name: value for name, value in given.items() if value}


def _member(member: Member) -> dict[str, str]:
    return {
        "Name": member.name,
        "EndpointID": member.endpoint_id,
        "MacAddress": member.endpoint.mac_address,
        "IPv4Address": member.address,
        "IPv6Address": member.ipv6_address,
    }


# -- acts --------------------------------------------------------------------------------------------


async def create(exchange: Exchange) -> None:
    body = await _body(exchange, _CREATE, "CreateRequest")
    made = await services.create_network(exchange.actor, body)
    await exchange.reply_json({"Id": made.id, "Warning": ""}, 201)


async def remove(exchange: Exchange) -> None:
    await services.remove_network(exchange.actor, exchange.params["id"])
    await exchange.reply(204)


async def connect(exchange: Exchange) -> None:
    body = await _body(exchange, _CONNECT, "ConnectOptions")
    await connecting.connect(exchange.actor, exchange.params["id"], body.get("Container", ""), body.get("EndpointConfig") or {})
    await exchange.reply(200)


async def disconnect(exchange: Exchange) -> None:
    body = await _body(exchange, _DISCONNECT, "DisconnectOptions")
    name, force = body.get("Container", ""), bool(body.get("Force"))
    try:
        await connecting.disconnect(exchange.actor, exchange.params["id"], name, force=force)
    except NotFound:
        if not force:
            raise
        await _force_away(exchange, name)
    await exchange.reply(200)


async def _force_away(exchange: Exchange, name: str) -> None:
    """moby looks for what a container that is gone has left in the network. Nothing of ours stays there."""
    await projection.network(exchange.actor, exchange.params["id"])
    await _known_container(exchange, name)


async def _known_container(exchange: Exchange, name: str) -> None:
    try:
        await containers.container(exchange.actor, name)
    except NotFound:
        raise NotFound(f"endpoint {name} not found") from None


async def prune(exchange: Exchange) -> None:
    test = prunable(words.filters(exchange.text("filters"), ("label", "label!", "until")), time.time_ns())
    names = await services.prune_networks(exchange.actor, test)
    await exchange.reply_json({"NetworksDeleted": names or None})


def prunable(given: words.Filters, now_ns: int) -> Test:
    """What the filters of a prune let through."""
    until = given.get("until") or []
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    before_ns = words.moment_ns(until[0], now_ns) if until else 0
    wanted, unwanted = given.get("label") or [], given.get("label!") or []

    def test(view: NetworkView) -> bool:
        if before_ns and view.created_ns > before_ns:
            return False
        return words.labels_match(wanted, view.labels) and not (unwanted and words.labels_match(unwanted, view.labels))

    return test


async def _body(exchange: Exchange, members_of_body: Mapping[str, Kind], go_name: str) -> dict[str, Any]:
    given = schema.parse(await exchange.read_json())
    return schema.decode(members_of_body, given if given is not None else {}, go_name, f"network.{go_name}")
