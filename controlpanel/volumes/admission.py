"""May this volume be, may it grow: what it takes of its tenant's and its project's quota, for the ledger to admit.

Its row comes with the host's answer; until then the operation that asks has reserved its part. Inside that operation's transaction.
"""

from __future__ import annotations

from controlpanel.hosts.operations import Reserved
from controlpanel.tenants import projects
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.quota import disk, ledger
from controlpanel.tenants.quota.resources import DISK, VOLUMES
from engine.errors import QuotaExceeded
from engine.model.volume import VolumeSpec


def admit(tenant: Tenant, spec: VolumeSpec) -> tuple[int, Reserved]:
    """Of a new one. Bytes that it may hold, which it gets where there is a quota of disk; 0 = no limit of its own."""
    account = ledger.account(tenant.pk, projects.name_of(spec.labels))
    takes_disk = not spec.in_memory and not spec.folder
    size = disk.sizes(account, {"": spec.size_bytes})[""] if takes_disk else 0
    with disk.explained(account):
        account.admit({VOLUMES: 1, DISK: size})
    return size, Reserved(volumes=1, disk_bytes=size, project=account.project_id)


def admit_clone(tenant: Tenant, spec: VolumeSpec) -> Reserved:
    """A copy has the size of what it copies."""
    account = ledger.account(tenant.pk, projects.name_of(spec.labels))
    if account.limit(DISK) and not spec.size_bytes and not spec.in_memory and not spec.folder:
        raise QuotaExceeded(
            f"volume {spec.name} was made without a size, and so would be its copy, but disk is limited: make a volume with a size, and "
            "copy the files",
            rule=f"quota.{DISK}",
        )
    account.admit({VOLUMES: 1, DISK: spec.size_bytes})
    return Reserved(volumes=1, disk_bytes=spec.size_bytes, project=account.project_id)


def admit_resize(tenant: Tenant, spec: VolumeSpec, size: int) -> Reserved:
    """What it grows by is reserved; to shrink is free, and counts when the host has done it."""
    account = ledger.account(tenant.pk, projects.name_of(spec.labels))
    grown = max(0, size - spec.size_bytes)
    account.admit({DISK: grown})
    return Reserved(disk_bytes=grown, project=account.project_id)
