"""What was applied from configuration files, by tenants and on the platform."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import PLATFORM_RULE, isolate


def _fields():
    return [
        (
            "id",
            models.UUIDField(
                default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
            ),
        ),
        ("created_at", models.DateTimeField(auto_now_add=True)),
        ("kind", models.CharField(max_length=40)),
        ("name", models.CharField(max_length=120)),
        ("owner", models.CharField(blank=True, max_length=63)),
        ("digest", models.CharField(max_length=64)),
        ("object_id", models.UUIDField(null=True)),
        ("applied_at", models.DateTimeField(default=django.utils.timezone.now)),
        (
            "applied_as",
            models.CharField(help_text="How the history names whoever applied it.", max_length=120),
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("clusters", "0021_replay"), ("tenants", "0005_webhooks")]

    operations = [
        migrations.CreateModel(
            name="AppliedObject",
            fields=[
                *_fields(),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={"abstract": False, "base_manager_name": "objects"},
        ),
        migrations.CreateModel(name="AppliedPlatformObject", fields=_fields()),
        migrations.AddConstraint(
            model_name="appliedobject",
            constraint=models.UniqueConstraint(
                fields=("tenant", "kind", "name"), name="applied_once_in_tenant"
            ),
        ),
        migrations.AddConstraint(
            model_name="appliedplatformobject",
            constraint=models.UniqueConstraint(fields=("kind", "name"), name="applied_once_on_platform"),
        ),
        isolate("clusters_appliedobject"),
        isolate("clusters_appliedplatformobject", PLATFORM_RULE),
    ]
