"""What networks a tenant has, kept in the web process: loaded from rows on a miss, dropped when they change.

The default bridge and "none" are among them, though they have no rows; and "host" where it is allowed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from controlpanel.base import database, live
from controlpanel.networks.builtin import BRIDGE, DRIVERS, HOST, network_id
from controlpanel.networks.models import Network
from controlpanel.tenants import attempts, projects
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.permissions import check_place, sight
from engine.errors import InvalidArgument, NotFound
from engine.model import codec
from engine.model.network import Pool
from engine.model.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """``user_defined``: the tenant made it, and may remove it."""

    id: str
    name: str
    driver: str
    created_ns: int
    user_defined: bool = True
    ready: bool = True  # the host has it
    internal: bool = False
    attachable: bool = False
    icc: bool = True
    mtu: int = 0
    asked_pool: Pool | None = field(default_factory=Pool)
    pool: Pool | None = field(default_factory=Pool)  # None = no IPv4
    asked_ipv6_pool: Pool | None = None
    ipv6_pool: Pool | None = None  # None = no IPv6
    ipam: dict[str, Any] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)

    @property
    def project(self) -> str:
        """Its name, "" for none."""
        return projects.name_of(self.labels)


_shelves: dict[int, list[NetworkView]] = {}
_generation: dict[int, int] = {}


async def networks(actor: Actor) -> list[NetworkView]:
    """The tenant's that the actor knows of: those that it made, newest first, then what it has without, which every member uses."""
    assert actor.tenant is not None
    made, sees = await _made(actor.tenant_number), sight(actor, "network")
    return [*(made if sees is None else [view for view in made if sees(view.project)]), *builtin(actor.tenant)]


async def network(actor: Actor, name: str) -> NetworkView:
    """By id, name or unique start of an id, as moby looks it up. NotFound for another tenant's and what the actor does not know of;
    PermissionDenied where what the request tries does not hold."""
    view = find(await networks(actor), name)
    check_use(actor, view)
    return view


def check_use(actor: Actor, view: NetworkView) -> None:
    """What every tenant has belongs to no project: any container may be in it, and only who acts in the whole tenant changes it."""
    if not actor.is_plain and (view.user_defined or attempts.verb() not in ("network.connect", "container.create")):
        check_place(actor, view.project)


def find(views: list[NetworkView], name: str) -> NetworkView:
    for view in views:
        if view.id == name:
            return view
    for view in views:
        if view.name == name:
            return view
    matches = [view for view in views if view.id.startswith(name)] if name else []
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InvalidArgument(f"network {name} is ambiguous ({len(matches)} matches found based on ID prefix)")
    raise no_such_network(name)


def no_such_network(name: str) -> NotFound:
    return NotFound(f"network {name} not found")


def builtin(tenant: Tenant) -> list[NetworkView]:
    """What a tenant has without having made it. The subnet of the bridge is known when the host has made a place for the tenant."""
    created_ns = int(tenant.created_at.timestamp()) * 1_000_000_000
    place = next(iter(tenant.hosts.values()), None) or {}
    found = []
    for name, driver in DRIVERS.items():
        if name == HOST and not tenant.policy.host_network:
            continue
        pool, options = Pool(), {}
        if name == BRIDGE:
            options = {"com.docker.network.bridge.default_bridge": "true"}
            if place.get("subnet"):
                subnet = ipaddress.IPv4Network(place["subnet"])
                pool = Pool(subnet=str(subnet), gateway=str(subnet[1]))
        number = network_id(tenant.name, name)
        found.append(
            NetworkView(id=number, name=name, driver=driver, created_ns=created_ns, user_defined=False, pool=pool, options=options)
        )
    return found


async def _made(tenant_id: int) -> list[NetworkView]:
    found = _shelves.get(tenant_id)
    if found is None:
        generation = _generation.get(tenant_id, 0)
        found = await database.read(_load, tenant_id)
        if _generation.get(tenant_id, 0) == generation:
            _shelves[tenant_id] = found
    return found


def _load(tenant_id: int) -> list[NetworkView]:
    return [view(row) for row in Network.everywhere.filter(tenant_id=tenant_id).order_by("-created_ns")]


def view(row: Network) -> NetworkView:
    return NetworkView(
        id=row.network_id,
        name=row.name,
        driver=row.driver,
        created_ns=row.created_ns,
        ready=row.state != Network.CREATING,
        internal=row.internal,
        attachable=row.attachable,
        icc=row.icc,
        mtu=row.mtu,
        asked_pool=codec.from_json(Pool | None, row.asked_pool),
        pool=codec.from_json(Pool | None, row.pool),
        asked_ipv6_pool=codec.from_json(Pool | None, row.asked_ipv6_pool),
        ipv6_pool=codec.from_json(Pool | None, row.ipv6_pool),
        ipam=row.ipam,
        options=row.options,
        labels=row.labels,
        rules=codec.from_json(Rules, row.rules),
    )


def _changed(message: live.Message, _row: Any) -> None:
    tenant_id = message["tenant"]
    _shelves.pop(tenant_id, None)
    _generation[tenant_id] = _generation.get(tenant_id, 0) + 1


def clear() -> None:
    """Everything is read again. After a gap in the live feed, and in tests."""
    for tenant_id in {*_shelves, *_generation}:
        _generation[tenant_id] = _generation.get(tenant_id, 0) + 1
    _shelves.clear()


live.on("network", _changed)
live.on("gap", lambda _message, _row: clear())
