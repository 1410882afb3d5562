from typing import Any

from django.db import migrations, models


def gather(apps: Any, _schema: Any) -> None:
    """What three columns said is in one policy."""
    for tenant in apps.get_model("tenants", "Tenant").objects.all():
        words = tenant.published_ports.strip()
        policy: dict[str, Any] = {}
        if words:
            policy["ports"] = [] if words == "none" else [word.strip() for word in words.split(",")]
        if tenant.host_network:
            policy["host_network"] = True
        if tenant.force_no_new_privileges:
            policy["new_privileges"] = False
        if policy:
            tenant.policy_words = policy
            tenant.save(update_fields=["policy_words"])


class Migration(migrations.Migration):
    dependencies = [("tenants", "0009_roles")]

    operations = [
        migrations.AddField(model_name="tenant", name="policy_words", field=models.JSONField(default=dict)),
        migrations.RunPython(gather, migrations.RunPython.noop),
        migrations.RemoveField(model_name="tenant", name="published_ports"),
        migrations.RemoveField(model_name="tenant", name="host_network"),
        migrations.RemoveField(model_name="tenant", name="force_no_new_privileges"),
    ]
