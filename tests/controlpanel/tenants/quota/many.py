"""Run as a program: several processes, each with its own connection to one database, create containers of one tenant as fast as they can.

python -m tests.controlpanel.tenants.quota.many PROCESSES CREATES LIMIT      DATABASE_URL and SLIPWAY_DATA say where
{"admitted": 100, "refused": 100, "rows": 100}
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from typing import Any


def main(processes: int, creates: int, limit: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlpanel.settings"
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    from controlpanel.containers.models import Container
    from controlpanel.hosts.models import Host
    from controlpanel.tenants.models import Tenant

    tenant = Tenant.objects.create(name="acme", containers_max=limit, projects_max=1)
    Host.here()
    connections.close_all()
    context = multiprocessing.get_context("fork")
    ready, outcomes = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_create, args=(tenant.pk, number, creates // processes, ready, outcomes)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [outcomes.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    admitted = sum(each[0] for each in found)
    said = {"admitted": admitted, "refused": sum(each[1] for each in found), "rows": Container.everywhere.filter(tenant=tenant).count()}
    print(json.dumps(said))


def _create(tenant_id: int, number: int, count: int, ready: Any, outcomes: Any) -> None:
    """What services._begin_create does with the database, without the host."""
    from django.db import transaction

    from controlpanel.base import statements
    from controlpanel.containers import admission, rows
    from controlpanel.hosts.models import Host
    from controlpanel.tenants.models import Tenant
    from engine.errors import QuotaExceeded
    from engine.model.container import ContainerSpec

    tenant, host = Tenant.objects.get(pk=tenant_id), Host.here()
    admitted = refused = 0
    ready.wait()
    try:
        for each in range(count):
            name = f"c{number}-{each}"
            labels = {"com.docker.compose.project": "shop"}
            digits = f"{number:032x}{each:032x}"
            spec = ContainerSpec(id=digits, tenant="acme", name=name, image_id="sha256:", image="x", args=("true",), labels=labels)
            try:
                with transaction.atomic():
                    allowed = admission.admit_create(tenant, spec)
                    words: dict[str, Any] = {"config": {}, "host_config": {}, "network_names": {}, "created_at_ns": time.time_ns()}
                    statements.insert(rows.new(tenant, host, allowed.spec, project_id=allowed.project_id, **words))
                admitted += 1
            except QuotaExceeded:
                refused += 1
    finally:
        outcomes.put((admitted, refused))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
