import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0003_bandwidth"),
    ]

    operations = [
        migrations.CreateModel(
            name="ContainerTraffic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.CharField(max_length=7)),
                ("book", models.CharField(max_length=16)),
                ("into_bytes", models.BigIntegerField(default=0)),
                ("into_packets", models.BigIntegerField(default=0)),
                ("out_bytes", models.BigIntegerField(default=0)),
                ("out_packets", models.BigIntegerField(default=0)),
                ("container", models.CharField(max_length=64)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant")),
            ],
            options={
                "abstract": False,
                "base_manager_name": "everywhere",
                "default_manager_name": "everywhere",
                "constraints": [models.UniqueConstraint(fields=("container", "month", "book"), name="one_container_traffic_per_month")],
            },
            managers=[
                ("everywhere", django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name="TenantTraffic",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.CharField(max_length=7)),
                ("book", models.CharField(max_length=16)),
                ("into_bytes", models.BigIntegerField(default=0)),
                ("into_packets", models.BigIntegerField(default=0)),
                ("out_bytes", models.BigIntegerField(default=0)),
                ("out_packets", models.BigIntegerField(default=0)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.tenant")),
            ],
            options={
                "abstract": False,
                "base_manager_name": "everywhere",
                "default_manager_name": "everywhere",
                "constraints": [models.UniqueConstraint(fields=("tenant", "month", "book"), name="one_tenant_traffic_per_month")],
            },
            managers=[
                ("everywhere", django.db.models.manager.Manager()),
            ],
        ),
    ]
