"""What tells an endpoint's load: times between tokens, spread of lengths, requests by minute."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

from tenants.isolation import isolate

SEGMENTS = """
ALTER TABLE billing_usagesegment
    ADD COLUMN input_tokens_squared bigint NOT NULL DEFAULT 0 CHECK (input_tokens_squared >= 0),
    ADD COLUMN output_tokens_squared bigint NOT NULL DEFAULT 0 CHECK (output_tokens_squared >= 0),
    ADD COLUMN itl_ms integer[] NOT NULL DEFAULT '{}';
"""
NO_SEGMENTS = """
ALTER TABLE billing_usagesegment
    DROP COLUMN input_tokens_squared, DROP COLUMN output_tokens_squared, DROP COLUMN itl_ms;
"""


def columns(model: str, *, default: int | None, bucket: models.Field) -> list[migrations.AddField]:
    sums = {} if default is None else {"default": default}
    return [
        migrations.AddField(model, "input_tokens_squared", models.PositiveBigIntegerField(**sums)),
        migrations.AddField(model, "output_tokens_squared", models.PositiveBigIntegerField(**sums)),
        migrations.AddField(
            model, "itl_ms", django.contrib.postgres.fields.ArrayField(bucket, default=list, size=None)
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_allocation_intervals"), ("tenants", "0003_operator_answers")]

    operations = [
        migrations.RunSQL(
            SEGMENTS,
            NO_SEGMENTS,
            state_operations=columns("usagesegment", default=None, bucket=models.PositiveIntegerField()),
        ),
        *columns("usagehour", default=0, bucket=models.BigIntegerField()),
        *columns("usageday", default=0, bucket=models.BigIntegerField()),
        migrations.CreateModel(
            name="UsageMinutes",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("endpoint_id", models.UUIDField()),
                ("bucket", models.DateTimeField()),
                ("outcome", models.CharField(max_length=16)),
                (
                    "requests",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "base_manager_name": "objects",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "endpoint_id", "bucket", "outcome"), name="usage_minutes_once"
                    )
                ],
            },
        ),
        isolate("billing_usageminutes"),
    ]
