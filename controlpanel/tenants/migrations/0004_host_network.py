from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0003_bandwidth"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="host_network",
            field=models.BooleanField(default=False, verbose_name="the host’s network"),
        ),
    ]
