"""Networks without IPv4 have no pool of it."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("networks", "0005_projects")]

    operations = [migrations.AlterField("network", name, models.JSONField(default=dict, null=True)) for name in ("asked_pool", "pool")]
