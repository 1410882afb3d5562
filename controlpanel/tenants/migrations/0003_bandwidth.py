from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_networks"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="bandwidth_in",
            field=models.BigIntegerField(default=0, verbose_name="incoming bytes a second"),
        ),
        migrations.AddField(
            model_name="tenant",
            name="bandwidth_out",
            field=models.BigIntegerField(default=0, verbose_name="outgoing bytes a second"),
        ),
    ]
