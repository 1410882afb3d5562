"""What was there of a deleted tenant, and that nothing is left: rows by table, and what each host found when it looked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.db import models

from controlpanel.tenants.models import Tenant

_SOCKET_WITHIN_S: Final = 3.0  # a web process closes it when it hears of the end


@dataclass(frozen=True, slots=True)
class Report:
    """Both by kind: "rows: containers", "host local: cgroups". ``left`` has names, or how many; only of what is left."""

    tenant: str
    removed: dict[str, int]
    left: dict[str, Any]

    @property
    def is_clean(self) -> bool:
        return not self.left

    def lines(self) -> Iterator[str]:
        yield f"{'':<32}{'REMOVED':>9}{'LEFT':>7}"
        for kind in [*self.removed, *(kind for kind in self.left if kind not in self.removed)]:
            left = self.left.get(kind, 0)
            yield f"{kind:<32}{self.removed.get(kind, 0):>9}{left if isinstance(left, int) else len(left):>7}"
        for kind, left in self.left.items():
            yield f"left: {kind}: {left if isinstance(left, int) else ', '.join(left)}"
        yield f"nothing is left of tenant {self.tenant}" if self.is_clean else f"tenant {self.tenant} is deleted, but see what is left"


def rows_of(number: int) -> dict[str, int]:
    """Of every table with a tenant's rows, whichever app has it; the audit log stays."""
    found: dict[str, int] = {}
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, models.ForeignKey) and field.related_model is Tenant:
                kind = f"rows: {model._meta.verbose_name_plural}"
                found[kind] = found.get(kind, 0) + model._base_manager.filter(**{field.attname: number}).count()
    return found


def made(tenant: str, before: Mapping[str, int], after: Mapping[str, int], hosts: Mapping[str, Mapping[str, Any]]) -> Report:
    """``hosts``: name → {"before": {kind: n}, "left": {kind: names}} as engine.remains has them."""
    removed = dict(before)
    left: dict[str, Any] = {kind: count for kind, count in after.items() if count}
    for host, told in hosts.items():
        removed |= {f"host {host}: {kind}": count for kind, count in told.get("before", {}).items()}
        left |= {f"host {host}: {kind}": names for kind, names in told.get("left", {}).items() if names}
    return Report(tenant, removed, left)


async def with_socket(report: Report, tenant: Tenant) -> Report:
    """Its unix socket goes when web hears of it; while no web process runs, when the next one begins."""
    path = Path(tenant.socket_path)
    removed = {**report.removed, "socket": 1}
    for _ in range(int(_SOCKET_WITHIN_S / 0.05)):
        if not path.exists():
            return replace(report, removed=removed)
        await asyncio.sleep(0.05)
    return replace(report, removed={**removed, "socket": 0}, left={**report.left, "socket": [str(path)]})
