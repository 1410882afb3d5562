from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Exec",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("container", models.CharField(db_index=True, max_length=64)),
                ("exec_id", models.CharField(max_length=64, unique=True)),
                ("spec", models.JSONField()),
                ("detach_keys", models.CharField(blank=True, default="", max_length=200)),
                ("started", models.BooleanField(default=False)),
                ("pid", models.BigIntegerField(default=0)),
                ("exit_code", models.IntegerField(default=None, null=True)),
                ("created_at_ns", models.BigIntegerField()),
                ("finished_at_ns", models.BigIntegerField(default=0)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant")),
            ],
            options={
                "base_manager_name": "everywhere",
                "default_manager_name": "everywhere",
            },
            managers=[
                ("everywhere", django.db.models.manager.Manager()),
            ],
        ),
    ]
