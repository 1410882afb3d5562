"""What crashes left on this machine: found, named, and removed if asked (``manage.py doctor --repair``).

    of an instance that is gone     cgroups and processes in them, bridges and veths, nft tables, rules in other firewalls,
                                    mounts below its folder, its claims
    of this instance                cgroups, veths and addresses of containers that are gone or have ended; cgroups of tenants that are
                                    gone; half-made containers; trash. A tenant's cgroup ``files`` (copies) stays with the tenant.
    of a tenant the panel has not   containers, volumes and networks, which are only named
    of one that it has              those of them that it has no row of, likewise

Whose a thing is, its name says: all carry the four hex digits of their instance. Nothing of another instance that exists is ever
touched, and of this one only what no container has that runs or is being started. What belongs to an instance that nobody has
noted is left alone, and said.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine import disk, errors, instances, recovery
from engine.claims import Claims
from engine.kernel import cgroups, netlink, syscalls
from engine.kernel.nftables import Nftables
from engine.model.container import is_container_id
from engine.networks import neighbours

if TYPE_CHECKING:
    from engine.engine import Engine

_ROOT: Final = re.compile(r"slipway-([0-9a-f]{4})")
_LINK: Final = re.compile(r"([0-9a-f]{4})(?:bn?\d+|[vi][0-9a-f]{8})")
_TABLE: Final = re.compile(r"slipway_([0-9a-f]{4})")
_FAMILIES: Final = ("inet", "bridge")
_TENANT_DEPTH: Final = 2  # slashes of /slipway-xxxx/tenant


@dataclass(frozen=True, slots=True)
class Leftover:
    """``remove`` is None for what is only said: nobody knows whose it is."""

    what: str
    why: str
    remove: Callable[[], None] | None


class Told(NamedTuple):
    """What a panel has of a tenant."""

    number: int
    containers: frozenset[str]  # ids
    volumes: frozenset[str]  # names
    networks: frozenset[str]  # ids


def of_others(own: str = "") -> Iterator[Leftover]:
    """Of instances other than ``own`` that are gone, and of such that nobody noted. In the order in which they must be removed."""
    nft = _nftables()
    try:
        noted = _noted()
        groups, links, tables = _cgroup_roots(), _links(), _tables(nft)
        for instance in sorted({*groups, *links, *tables, *noted} - {own}):
            owner = noted.get(instance)
            if owner is not None and owner.exists:
                continue
            things = list(_of_instance(instance, groups.get(instance, ()), links.get(instance, []), tables.get(instance, []), nft))
            if owner is None:
                names = ", ".join(what for what, _remove in things)
                yield Leftover(names, f"nobody noted an instance {instance}: it may live with an older release, so it is left alone", None)
                continue
            why = f"its instance {instance} is gone with {owner.data}"
            for what, remove in things:
                yield Leftover(what, why, remove)
            for place in reversed(_mounts_below(owner.data)):
                yield Leftover(f"mount {place}", why, _unmounting(place))
            yield Leftover(f"claims of instance {instance}", why, _forgetting(owner))
    finally:
        if nft is not None:
            nft.close()


def of_own(engine: Engine) -> Iterator[Leftover]:
    """Each is looked at again under its container's lock when it is removed: it may have been started meanwhile."""
    kept = {words["id"] for words in engine.keeper.list()}
    states = {spec.id: state for spec, state in engine.list()}
    alive = {number for number, state in states.items() if state.has_process} | kept
    root = f"/slipway-{engine.instance}"
    ready = {number for number, state in states.items() if state.run == 0}  # its first run may have been made ready with its creation
    for parent, number in _container_cgroups(root):
        if number not in alive | ready:
            yield Leftover(f"cgroup {parent}/{number[:12]}", _why(number in states), _settling(engine, number, f"{parent}/{number}"))
    for tenant in cgroups.names(root):
        if not _is_known(engine, tenant):
            yield Leftover(f"cgroup {root}/{tenant}", "its tenant is gone", _ending_tenant(engine, tenant, f"{root}/{tenant}"))
    leased = engine.networks.links(alive)
    for name in _links().get(engine.instance, []):
        kind, veth = name[len(engine.instance)], f"{engine.instance}v{name[len(engine.instance) + 1 :]}"
        if kind in "vi" and veth not in leased:
            yield Leftover(f"link {name}", "no container that runs has it", _deleting(name))
    for number in engine.networks.dead(alive):
        yield Leftover(f"address of {number[:12]}", _why(number in states), _releasing(engine, number))
    for number in engine.records.unfinished(older_than_s=60.0):
        yield Leftover(f"half-made container {number[:12]}", "its creation was killed", partial(recovery.forget_unfinished, engine))
    for path in sorted(engine.config.trash.iterdir()):
        yield Leftover(f"trash {path.name[:40]}", "it was thrown away and not emptied yet", partial(disk.empty_trash, engine.config.trash))


def of_tenants(engine: Engine, tenants: Mapping[str, Told]) -> Iterator[Leftover]:
    """What is on this host for somebody who is not among a panel's tenants now, or is and has no row of it: of a database that was lost in
    part, or of messages that no panel sent. It is data, so it is only said."""
    for spec, _state in engine.list():
        told, what = tenants.get(spec.tenant), f"container {spec.name} ({spec.id[:12]})"
        if spec.shown and (told is None or told.number != spec.shown.get("tenant")):
            why = f"the tenant {spec.tenant} it was made for is not in the panel; `python3 -m engine --tenant {spec.tenant} rm -f"
            yield Leftover(what, f"{why} {spec.id[:12]}` removes it and what it holds", None)
        elif spec.shown and told is not None and spec.id not in told.containers:
            yield Leftover(what, _unknown(spec.tenant), None)
    found = [(tenant, f"volume {name}", "volumes", name) for tenant in engine.volumes.tenants() for name in engine.volumes.names(tenant)]
    found += [(spec.tenant, f"network {spec.name} ({spec.id[:12]})", "networks", spec.id) for spec in engine.networks.specs()]
    for tenant, what, kind, name in found:
        told = tenants.get(tenant)
        if told is None:
            yield Leftover(what, f"its tenant {tenant} is not in the panel", None)
        elif name not in getattr(told, kind):
            yield Leftover(what, _unknown(tenant), None)


def _unknown(tenant: str) -> str:
    return f"the panel has no row of it, and takes it in when the agent begins anew; it goes with its tenant {tenant} at the latest"


def _why(present: bool) -> str:
    return "its container has ended" if present else "its container is gone"


# -- what there is -----------------------------------------------------------------------------------


def _noted() -> dict[str, instances.Living]:
    """The notes of this boot; of instances that are up to now known by the claims file alone what that says."""
    found = {name: instances.Living(name, Path(claim["data"]), (), None) for name, claim in Claims().all().items()}
    return {**found, **instances.noted()}


def _cgroup_roots() -> dict[str, tuple[str, ...]]:
    return {match[1]: (f"/{name}",) for name in cgroups.names("/") if (match := _ROOT.fullmatch(name))}


def _links() -> dict[str, list[str]]:
    """Bridges first removed would leave their ports; the other way round both go. So veths come first."""
    found: dict[str, list[str]] = {}
    for _, name in socket.if_nameindex():
        if match := _LINK.fullmatch(name):
            found.setdefault(match[1], []).append(name)
    return {instance: sorted(names, key=lambda name: name[4:5], reverse=True) for instance, names in found.items()}


def _tables(nft: Nftables | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in nft.list("tables") if nft is not None else []:
        table = item.get("table", {})
        if (match := _TABLE.fullmatch(str(table.get("name", "")))) and table.get("family") in _FAMILIES:
            found.setdefault(match[1], []).append(f"{table['family']} {table['name']}")
    return found


def _container_cgroups(group: str) -> Iterator[tuple[str, str]]:
    """(the cgroup it is in, its id), however deep a --cgroup-parent puts it. What a container makes in its own is not looked at."""
    for name in cgroups.names(group):
        if is_container_id(name):
            yield group, name
        else:
            yield from _container_cgroups(f"{group}/{name}")


def _is_known(engine: Engine, tenant: str) -> bool:
    try:
        engine.tenants.get(tenant)
    except errors.NotFound:
        return False
    return True


def _mounts_below(folder: Path) -> list[str]:
    """In the order in which they were mounted."""
    places = [row.split()[4] for row in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]


def _nftables() -> Nftables | None:
    try:
        return Nftables()
    except OSError:
        return None  # without the library nobody has made a table either


# -- removing ----------------------------------------------------------------------------------------

Things = Iterator[tuple[str, Callable[[], None]]]


def _of_instance(instance: str, groups: tuple[str, ...], links: list[str], tables: list[str], nft: Nftables | None) -> Things:
    for group in groups:
        yield f"cgroup {group}", _ending(group)
    for name in links:
        yield f"link {name}", _deleting(name)
    if nft is not None:
        for table in tables:
            yield f"nft table {table}", _dropping(nft, table)
        if tables:
            yield f"rules for {instance} in other firewalls", _withdrawing(nft, instance)


def _ending(group: str) -> Callable[[], None]:
    def remove() -> None:
        cgroups.kill_all(group)
        cgroups.remove_soon(group)

    return remove


def _ending_tenant(engine: Engine, tenant: str, group: str) -> Callable[[], None]:
    def remove() -> None:
        if not _is_known(engine, tenant):  # else it was made again meanwhile
            _ending(group)()

    return remove


def _deleting(name: str) -> Callable[[], None]:
    def remove() -> None:
        with netlink.Socket() as sock:
            try:
                sock.run([netlink.delete_link(sock.index(name), name)])
            except OSError as error:
                if name in [link for _, link in socket.if_nameindex()]:
                    raise error

    return remove


def _dropping(nft: Nftables, table: str) -> Callable[[], None]:
    return lambda: nft.run(f"delete table {table}\n")


def _withdrawing(nft: Nftables, instance: str) -> Callable[[], None]:
    return lambda: neighbours.withdraw(nft, instance)


def _unmounting(place: str) -> Callable[[], None]:
    return lambda: syscalls.umount2(place, syscalls.MNT_DETACH)


def _forgetting(owner: instances.Living) -> Callable[[], None]:
    def remove() -> None:
        for path in {owner.claims, None}:
            if path is None or os.path.exists(path):
                Claims(path).release(owner.instance)
        instances.forget(owner.instance)

    return remove


def _settling(engine: Engine, number: str, group: str) -> Callable[[], None]:
    def remove() -> None:
        try:
            engine.settle(number)
        except errors.NotFound:  # without a container nobody can start it
            cgroups.kill_all(group)
            cgroups.remove_soon(group)
            parent = group.rpartition("/")[0]
            while parent.count("/") > _TENANT_DEPTH and cgroups.remove_empty(parent):
                parent = parent.rpartition("/")[0]

    return remove


def _releasing(engine: Engine, number: str) -> Callable[[], None]:
    def remove() -> None:
        try:
            engine.settle(number)
        except errors.NotFound:
            engine.networks.release(number)

    return remove
