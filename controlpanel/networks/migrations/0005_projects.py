"""The projects of the networks that are there."""

from __future__ import annotations

import re
from typing import Any

from django.db import migrations

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def fill(apps: Any, _schema: Any) -> None:
    Network, Project = apps.get_model("networks", "Network"), apps.get_model("tenants", "Project")
    for row in Network.everywhere.iterator():
        name = row.labels.get("com.docker.compose.project", "")
        if _PROJECT.fullmatch(name):
            row.project = Project.objects.get_or_create(tenant_id=row.tenant_id, name=name)[0]
            row.save(update_fields=["project"])


class Migration(migrations.Migration):
    dependencies = [("networks", "0004_quota")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
