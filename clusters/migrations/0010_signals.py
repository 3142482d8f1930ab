"""How endpoints stand at gateways, a tenant's rows apart from every other's."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0009_gateway_policies"),
        ("tenants", "0003_operator_answers"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndpointSignal",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("gateway", models.CharField(max_length=40)),
                ("instance", models.CharField(max_length=48)),
                ("region", models.CharField(max_length=40)),
                ("heard_at", models.DateTimeField()),
                ("in_flight", models.PositiveIntegerField(default=0)),
                ("queued", models.JSONField(default=dict)),
                ("oldest_wait_s", models.FloatField(default=0)),
                ("requests", models.PositiveIntegerField(default=0)),
                ("shed", models.PositiveIntegerField(default=0)),
                ("refused", models.PositiveIntegerField(default=0)),
                ("failed", models.PositiveIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                (
                    "ttft_ms",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveIntegerField(), default=list, size=None
                    ),
                ),
                (
                    "itl_ms",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveIntegerField(), default=list, size=None
                    ),
                ),
                ("queue_s", models.FloatField(default=0)),
                ("prefill_s", models.FloatField(default=0)),
                ("decode_s", models.FloatField(default=0)),
                ("prefills", models.PositiveIntegerField(default=0)),
                ("kv_pressure", models.PositiveIntegerField(default=0)),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="signals",
                        to="clusters.endpoint",
                    ),
                ),
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
            options={
                "abstract": False,
                "base_manager_name": "objects",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "endpoint", "gateway", "instance"), name="one_signal_per_process"
                    )
                ],
            },
        ),
        isolate("clusters_endpointsignal"),
        # Rows are written over every few seconds: room in each page keeps that within it.
        migrations.RunSQL(
            "ALTER TABLE clusters_endpointsignal SET (fillfactor = 50);",
            "ALTER TABLE clusters_endpointsignal RESET (fillfactor);",
        ),
    ]
