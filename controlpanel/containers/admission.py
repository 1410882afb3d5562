"""May this container be, may it run: the tenant's limits against what is asked. A refusal names the rule and the figures.

The kernel holds the wall around the whole tenant whatever is admitted here; admission is for an early and honest answer.
"""

from __future__ import annotations

from typing import Final

from django.db.models import Sum

from controlpanel.containers.models import Container
from controlpanel.tenants.models import Tenant
from engine.errors import QuotaExceeded
from engine.model.container import ContainerSpec, Status

_RUNNING: Final = (Status.RUNNING.value, Status.PAUSED.value)
_RESOURCES: Final = (  # of the tenant and of the container
    ("memory_bytes", "memory_bytes", "memory", "bytes"),
    ("nano_cpus", "nano_cpus", "cpu", "billionths of a CPU"),
    ("pids", "pids", "pids", "processes"),
)


def admit_create(tenant: Tenant, spec: ContainerSpec) -> None:
    """Not more containers than the limit, and none that could never start."""
    if tenant.containers_max:
        used = Container.everywhere.filter(tenant=tenant).count()
        if used >= tenant.containers_max:
            raise _exceeded(tenant, "containers", "containers", tenant.containers_max, used, 1)
    asked = {
        "memory_bytes": spec.resources.memory_bytes,
        "nano_cpus": spec.resources.nano_cpus,
        "pids": spec.resources.pids_limit,
    }
    for limit_name, field, rule, unit in _RESOURCES:
        limit = getattr(tenant, limit_name)
        if limit and asked[field] > limit:
            raise _exceeded(tenant, rule, unit, limit, 0, asked[field])


def admit_start(tenant: Tenant, row: Container) -> None:
    """What runs and has limits of its own, with this one, stays within the tenant's."""
    limited = [(getattr(tenant, name), field, rule, unit) for name, field, rule, unit in _RESOURCES]
    relevant = [entry for entry in limited if entry[0] and getattr(row, entry[1])]
    if not relevant:
        return
    running = Container.everywhere.filter(tenant=tenant, status__in=_RUNNING).exclude(pk=row.pk)
    sums = running.aggregate(**{field: Sum(field, default=0) for _limit, field, _rule, _unit in relevant})
    for limit, field, rule, unit in relevant:
        if sums[field] + getattr(row, field) > limit:
            raise _exceeded(tenant, rule, unit, limit, sums[field], getattr(row, field))


def admit_update(tenant: Tenant, row: Container) -> None:
    """``row`` carries the new limits, not written yet: none that could never start, and room for them where it runs."""
    for limit_name, field, rule, unit in _RESOURCES:
        limit = getattr(tenant, limit_name)
        if limit and getattr(row, field) > limit:
            raise _exceeded(tenant, rule, unit, limit, 0, getattr(row, field))
    if row.to_state().has_process:
        admit_start(tenant, row)


def _exceeded(tenant: Tenant, rule: str, unit: str, limit: int, used: int, asked: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"quota of tenant {tenant.name}: {rule} is limited to {limit} {unit}, {used} are in use and {asked} more were asked",
        rule=f"quota.{rule}",
        limit=limit,
        used=used,
        asked=asked,
    )
