from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("networks", "0002_rules"),
    ]

    operations = [
        migrations.AddField(
            model_name="network",
            name="asked_ipv6_pool",
            field=models.JSONField(default=None, null=True),
        ),
        migrations.AddField(
            model_name="network",
            name="ipv6_pool",
            field=models.JSONField(default=None, null=True),
        ),
    ]
