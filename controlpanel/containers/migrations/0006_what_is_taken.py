"""What the containers that are there take of quotas, and their projects."""

from __future__ import annotations

import re
from typing import Any

from django.db import migrations

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def fill(apps: Any, _schema: Any) -> None:
    Container, Project = apps.get_model("containers", "Container"), apps.get_model("tenants", "Project")
    for row in Container.everywhere.only("tenant_id", "spec", "memory_bytes", "nano_cpus", "pids").iterator():
        resources, name = row.spec.get("resources") or {}, (row.spec.get("labels") or {}).get("com.docker.compose.project", "")
        both = resources.get("memory_swap_bytes", 0) or 2 * row.memory_bytes
        row.swap_bytes = max(0, both - row.memory_bytes) if row.memory_bytes else 0
        row.layer_bytes, row.ports = row.spec.get("layer_size_bytes", 0), len(row.spec.get("ports") or ())
        if _PROJECT.fullmatch(name):
            row.project = Project.objects.get_or_create(tenant_id=row.tenant_id, name=name)[0]
        row.save(update_fields=["swap_bytes", "layer_bytes", "ports", "project"])


class Migration(migrations.Migration):
    dependencies = [("containers", "0005_quota")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
