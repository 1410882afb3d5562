"""What quotas cost in the database, with few tenants and with many: ``python -m tests.bench.ledger``; on PostgreSQL when one is installed.

For each row: p50 in µs of the transaction that begins a ``docker create`` (admission, container, operation, audit record) without and with
every quota set, of reading all containers of a tenant, and of the figures of all its quotas.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.support import postgres, scratch

EACH: Final = 10  # containers of a tenant
TENANTS: Final = (10, 1000)
TIMES: Final = 300
_QUOTA: Final = 1 << 40


def main() -> None:
    print(f"{'database':<12}{'tenants':>8}{'create':>10}{'+ quotas':>10}{'list':>10}{'figures':>10}   µs", flush=True)
    with scratch.open_folder() as folder:
        for tenants in TENANTS:
            _measure_in_a_process("sqlite", f"sqlite:///{folder}/{tenants}.sqlite3", folder, tenants)
        if postgres.programs() is not None:
            with postgres.running(folder) as url:
                for tenants in TENANTS:
                    _measure_in_a_process("postgresql", url, folder, tenants)


def _measure_in_a_process(name: str, url: str, folder: Path, tenants: int) -> None:
    places = {"DATABASE_URL": url, "SLIPWAY_DATA": str(folder / "data"), "SLIPWAY_RUN": str(folder / "run")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.ledger", str(tenants)], env={**os.environ, **places}, check=True, capture_output=True, text=True
    )
    print(f"{name:<12}{tenants:>8}{done.stdout.rstrip()}", flush=True)


def _measure(count: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlpanel.settings"
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from controlpanel.containers import projection
    from controlpanel.tenants.models import Tenant
    from controlpanel.tenants.quota import ledger
    from controlpanel.tenants.quota.resources import OF_TENANT

    made = [_fill(number) for number in range(Tenant.objects.count(), count)]
    tenant = made[len(made) // 2]
    plain = _create(tenant)
    for column in OF_TENANT:
        setattr(tenant, column, _QUOTA if column.endswith("_bytes") or column == "nano_cpus" else 1_000_000)
    tenant.save()
    figures = [plain, _create(tenant), _p50(lambda: projection._views(tenant.pk)), _p50(lambda: ledger.use_of_tenant(tenant))]
    print("".join(f"{figure:>10.0f}" for figure in figures))


def _fill(number: int) -> Any:
    from django.db import transaction

    from controlpanel.base import statements
    from controlpanel.containers import rows
    from controlpanel.hosts.models import Host
    from controlpanel.tenants.models import Tenant

    with transaction.atomic():
        tenant = Tenant.objects.create(name=f"t{number}")
        for each in range(EACH):
            spec = _spec(tenant.name, f"{number:032x}{each:032x}", f"c{each}")
            row = rows.new(
                tenant, Host.here(), spec, config={}, host_config={}, network_names={}, project_id=None, created_at_ns=time.time_ns()
            )
            row.docker_config = {"Env": ["X=" + "y" * 1000]}  # a row of usual length
            statements.insert(row)
    return tenant


def _spec(tenant: str, digits: str, name: str) -> Any:
    from engine.model.container import ContainerSpec
    from engine.model.resources import Resources

    limits = Resources(memory_bytes=64 << 20, nano_cpus=500_000_000, pids_limit=100)
    return ContainerSpec(id=digits, tenant=tenant, name=name, image_id="sha256:", image="x", args=("true",), resources=limits)


def _create(tenant: Any) -> float:
    """The transaction is taken back, so that each finds the same rows."""
    from django.db import transaction

    from controlpanel.containers import request, services
    from controlpanel.tenants.actor import system

    actor, number = system(tenant), iter(range(10_000_000))

    def begin() -> None:
        each = next(number)
        spec = _spec(tenant.name, f"{0xFFFF:032x}{each:032x}", f"new{each}")
        asked = request.Asked(spec, {}, {}, (), {})
        with transaction.atomic():
            services._begin_create(actor, tenant, asked, spec.name)
            transaction.set_rollback(True)

    return _p50(begin)


def _p50(act: Callable[[], object]) -> float:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        act()
        took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took[TIMES // 10 :])


if __name__ == "__main__":
    _measure(int(sys.argv[1])) if len(sys.argv) > 1 else main()
