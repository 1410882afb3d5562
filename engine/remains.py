"""What a host has of a tenant, and the end of it: looked for where it lies, in files and in the kernel, not in what anybody remembers.

Its removal is proved with it: what there was before, and that nothing is left after.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine import ceilings, disk, errors
from engine.kernel import cgroups
from engine.kernel.nftables import Nftables
from engine.model.tenant import IDS_PER_TENANT
from engine.registries import origins

if TYPE_CHECKING:
    from engine.engine import Engine

Remains = dict[str, list[str]]  # kind → names

KINDS: Final = ("containers", "images", "volumes", "networks", "records", "cgroups", "links", "rules", "processes")


@dataclass(frozen=True, slots=True)
class Known:
    """What a host gave a tenant, asked for while it still knows: by these the kernel's things are found after that."""

    name: str
    links: frozenset[str] = frozenset()  # its bridges
    ids: range = range(0)


def known(engine: Engine, name: str) -> Known:
    try:
        tenant = engine.tenants.get(name)
    except errors.NotFound:
        return Known(name)
    ids = range(tenant.uid_start, tenant.uid_start + IDS_PER_TENANT)
    return Known(name, frozenset(engine.networks.bridges_of(tenant)), ids)


def end(engine: Engine, name: str, *, with_data: bool) -> None:
    """See Engine.remove_tenant. Volumes end with ``forget_tenant``."""
    if with_data:
        for spec, _state in engine.list(name):
            engine.remove(name, spec.id, force=True)
    volumes = [] if with_data else engine.volumes.names(name)
    for what, left in (("containers", [spec.name for spec, _state in engine.list(name)]), ("volumes", volumes)):
        if left:
            raise errors.FailedPrecondition(f"tenant {name} still has {what}: {', '.join(sorted(left)[:10])}")
    try:
        tenant = engine.tenants.get(name)
    except errors.NotFound:
        return
    engine.networks.remove_tenant(tenant)
    engine.images.forget_tenant(name)
    engine.volumes.forget_tenant(name)
    origins.forget(engine.config, name)
    ceilings.forget(engine.config, name)
    engine.traffic.forget(name)
    engine.end_file_work(name)
    cgroups.remove(engine.tenant_cgroup(name))
    disk.to_trash(engine.config.names / name, engine.config.trash, name="names")
    disk.to_trash(engine.config.builds / "said" / name, engine.config.trash, name="said")
    engine.tenants.remove(name)
    engine.networks.shape_tenants()


def look(engine: Engine, tenant: Known) -> Remains:
    """Every one of KINDS, with what is there now."""
    name = tenant.name
    return {
        "containers": sorted(spec.name for spec, _state in engine.list(name)),
        "images": sorted(engine.images.refs_of.read(name).images),
        "volumes": sorted(engine.volumes.names(name)),
        "networks": sorted(path.stem for path in (engine.config.engine / "networks" / "defined" / name).glob("*.json")),
        "records": _records(engine, name),
        "cgroups": _cgroups(engine.tenant_cgroup(name)),
        "links": sorted(tenant.links & {link for _, link in socket.if_nameindex()}),
        "rules": _rules(engine, tenant.links),
        "processes": _processes(tenant.ids),
    }


def _records(engine: Engine, name: str) -> list[str]:
    """Files and folders with its name: its ids and subnet are given back with the first."""
    config = engine.config
    files = [folder / f"{name}.json" for folder in (config.tenants, config.ceilings, config.refs)]
    places = [*files, config.names / name, config.volumes / name, config.builds / "cache" / name, config.builds / "said" / name]
    return [str(path.relative_to(config.engine)) for path in places if _holds(path)]


def _holds(path: Path) -> bool:
    """A folder that is empty holds nothing."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _cgroups(path: str) -> list[str]:
    return [path, *(f"{path}/{name}" for name in cgroups.names(path))] if cgroups.exists(path) else []


def _rules(engine: Engine, links: frozenset[str]) -> list[str]:
    """Of the instance's tables, elements that name one of its bridges."""
    if not links:
        return []
    nft = Nftables()
    try:
        found: list[dict[str, Any]] = []
        for family in ("inet", "bridge"):
            with suppress(OSError):  # nobody has made it
                found += nft.list(f"table {family} slipway_{engine.instance}")
    finally:
        nft.close()
    text = json.dumps(found)
    return sorted(link for link in links if f'"{link}"' in text)


def _processes(ids: range) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid in ids:
                found.append(pid)
    return found
