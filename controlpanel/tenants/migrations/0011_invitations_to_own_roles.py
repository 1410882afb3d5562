from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0010_policy")]

    operations = [
        migrations.AlterField(model_name="invitation", name="role", field=models.CharField(max_length=63, verbose_name="role")),
        migrations.AddField(model_name="invitation", name="project", field=models.CharField(blank=True, default="", max_length=63)),
    ]
