from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("containers", "0001_initial"),
    ]

    operations = [
        migrations.AlterField(
            model_name="container",
            name="status",
            field=models.CharField(
                choices=[
                    ("created", "created"),
                    ("running", "running"),
                    ("paused", "paused"),
                    ("restarting", "restarting"),
                    ("exited", "exited"),
                    ("dead", "dead"),
                ],
                default="created",
                max_length=10,
            ),
        ),
    ]
