"""What the volumes that are there take of quotas, and their projects."""

from __future__ import annotations

import re
from typing import Any

from django.db import migrations

from engine.model.volume import parse_size

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def fill(apps: Any, _schema: Any) -> None:
    Volume, Project = apps.get_model("volumes", "Volume"), apps.get_model("tenants", "Project")
    for row in Volume.everywhere.iterator():
        name = row.labels.get("com.docker.compose.project", "")
        row.size_bytes = parse_size(row.options["size"]) if "size" in row.options else 0
        if _PROJECT.fullmatch(name):
            row.project = Project.objects.get_or_create(tenant_id=row.tenant_id, name=name)[0]
        row.save(update_fields=["size_bytes", "project"])


class Migration(migrations.Migration):
    dependencies = [("volumes", "0002_quota")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
