from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("images", "0002_image_told_ns"),
    ]

    operations = [
        migrations.AddField(
            model_name="image",
            name="layer_bytes",
            field=models.JSONField(default=list),
        ),
    ]
