"""May this container be, may it run: what it takes of its tenant's and its project's quota, for the ledger to admit.

cpu, memory, swap, processes and ports are taken by what runs: a container that was stopped keeps none. Its layer keeps its size.
The kernel holds the wall around the whole tenant whatever is admitted here; admission is for an early and honest answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from controlpanel.containers.models import Container
from controlpanel.tenants import projects
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import disk, ledger
from controlpanel.tenants.quota.resources import CONTAINERS, CPU, DISK, MEMORY, PIDS, PORTS, SWAP, VOLUMES
from controlpanel.volumes.models import Volume
from engine.model.container import ContainerSpec
from engine.model.resources import Resources
from engine.model.volume import VOLUME, MountSpec, VolumeSpec

_PERIOD_US: Final = 100_000  # of the kernel, where none is named
_COLUMNS: Final = {CPU: "nano_cpus", MEMORY: "memory_bytes", SWAP: "swap_bytes", PIDS: "pids", PORTS: "ports"}


@dataclasses.dataclass(frozen=True, slots=True)
class Admitted:
    """``spec`` with a size wherever the quota needs one; volumes that it makes, which have no row yet."""

    spec: ContainerSpec
    project_id: int | None
    new_volumes: int
    new_volume_bytes: int


def admit_create(tenant: Tenant, spec: ContainerSpec) -> Admitted:
    """Not more containers, volumes and disk than the limits, and none that could never start. In the transaction that writes the row."""
    account = ledger.account(tenant.pk, projects.name_of(spec.labels))
    running = _running(columns_of(spec))
    account.check_alone(running)
    account.check_declared(running)
    new = _new_volumes(tenant, spec.mounts)
    sizes = disk.sizes(account, {"": _layer(spec), **{name: each.size_bytes for name, each in new.items() if _takes_disk(each)}})
    asked = {CONTAINERS: 1, VOLUMES: len(new), DISK: sum(sizes.values())}
    with disk.explained(account):
        account.admit(asked)
    layer = sizes.pop("")
    spec = dataclasses.replace(
        spec,
        layer_size_bytes=layer,
        layer_size_is_part=layer != spec.layer_size_bytes,
        mounts=tuple(_sized(mount, sizes) for mount in spec.mounts),
    )
    return Admitted(spec, account.project_id, len(new), sum(sizes.values()))


def _layer(spec: ContainerSpec) -> int:
    """Bytes, or disk.NONE of one that nobody can write to."""
    return disk.NONE if spec.read_only_rootfs and not spec.layer_size_bytes else spec.layer_size_bytes


def _new_volumes(tenant: Tenant, mounts: Iterable[MountSpec]) -> dict[str, VolumeSpec]:
    named = {
        mount.source: VolumeSpec(tenant=tenant.name, name=mount.source, options=mount.options) for mount in mounts if mount.type == VOLUME
    }
    if named:
        for name in Volume.everywhere.filter(tenant=tenant, name__in=list(named)).values_list("name", flat=True):
            del named[name]
    return named


def _takes_disk(volume: VolumeSpec) -> bool:
    return not volume.in_memory and not volume.folder


def _sized(mount: MountSpec, sizes: Mapping[str, int]) -> MountSpec:
    if mount.type != VOLUME or not sizes.get(mount.source) or "size" in mount.options:
        return mount
    return dataclasses.replace(mount, options={**mount.options, "size": str(sizes[mount.source])})


def columns_of(spec: ContainerSpec) -> dict[str, int]:
    """What the row says it takes, by column."""
    return {**resource_columns(spec.resources), "layer_bytes": spec.layer_size_bytes, "ports": len(spec.ports)}


def resource_columns(resources: Resources) -> dict[str, int]:
    cpus = resources.nano_cpus or resources.cpu_quota_us * 1_000_000_000 // (resources.cpu_period_us or _PERIOD_US)
    both = resources.memory_swap_bytes or 2 * resources.memory_bytes
    return {
        "nano_cpus": cpus,
        "memory_bytes": resources.memory_bytes,
        "swap_bytes": max(0, both - resources.memory_bytes) if resources.memory_bytes else 0,
        "pids": max(0, resources.pids_limit),
    }


def _running(columns: Mapping[str, int]) -> dict[str, int]:
    """By resource."""
    return {name: columns[column] for name, column in _COLUMNS.items() if column in columns}


def admit_start(row: Container) -> None:
    """What runs, with this one, stays within the limits. One that runs already has its part."""
    if row.takes_as_running:
        return
    account = ledger.account(row.tenant_id, projects.name_of(row.spec.get("labels") or {}))
    running = _running({column: getattr(row, column) for column in _COLUMNS.values()})
    account.check_declared(running)
    account.admit(running)


def admit_change(row: Container, columns: Mapping[str, int]) -> None:
    """New values for some of its columns, not written yet: none that could never start, and room for what grows."""
    account = ledger.account(row.tenant_id, projects.name_of(row.spec.get("labels") or {}))
    before = {column: getattr(row, column) for column in _COLUMNS.values()}
    more = {name: count for name, count in _running(columns).items() if count > before[_COLUMNS[name]]}
    account.check_alone(more)
    account.check_declared(_running({column: value for column, value in columns.items() if value != before.get(column, value)}))
    grown = {name: count - before[_COLUMNS[name]] for name, count in more.items()} if row.takes_as_running else {}
    account.admit({**grown, DISK: columns.get("layer_bytes", row.layer_bytes) - row.layer_bytes})
