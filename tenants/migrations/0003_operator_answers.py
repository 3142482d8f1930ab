"""Answers to operators' repeated creates."""

from django.db import migrations, models

import tenants.models.base


class Migration(migrations.Migration):
    dependencies = [("tenants", "0002_isolation")]

    operations = [
        migrations.CreateModel(
            name="OperatorIdempotencyRecord",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("principal", models.CharField(max_length=64)),
                ("method", models.CharField(max_length=8)),
                ("path", models.CharField(max_length=200)),
                ("key", models.CharField(max_length=255)),
                (
                    "fingerprint",
                    models.CharField(help_text="SHA-256 of the canonical JSON body.", max_length=64),
                ),
                ("status", models.PositiveSmallIntegerField(null=True)),
                ("body", models.BinaryField(null=True)),
                ("headers", models.JSONField(default=dict)),
            ],
            options={
                "indexes": [models.Index(fields=["created_at"], name="operator_idempotency_expiry")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("principal", "method", "path", "key"), name="operator_idempotency_key_once"
                    )
                ],
            },
        ),
    ]
