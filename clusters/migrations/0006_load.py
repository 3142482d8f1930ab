"""What endpoints' own requests say of their orders, a tenant's rows apart from every other's."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0005_planning"),
        ("tenants", "0003_operator_answers"),
    ]

    operations = [
        migrations.AlterField(
            model_name="condition",
            name="type",
            field=models.CharField(
                choices=[
                    ("Placed", "Placed"),
                    ("Provisioned", "Provisioned"),
                    ("EngineReady", "Engine Ready"),
                    ("Routed", "Routed"),
                    ("Reachable", "Reachable"),
                    ("InSync", "In Sync"),
                    ("LoadDrift", "Load Drift"),
                ],
                max_length=32,
            ),
        ),
        migrations.CreateModel(
            name="LoadObservation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("since", models.DateTimeField()),
                ("until", models.DateTimeField()),
                ("hours", models.PositiveIntegerField()),
                ("requests", models.PositiveBigIntegerField()),
                ("requests_per_second", models.FloatField()),
                ("burstiness", models.FloatField(default=1)),
                ("input_tokens", models.PositiveIntegerField()),
                ("output_tokens", models.PositiveIntegerField()),
                ("input_cv", models.FloatField(default=1)),
                ("output_cv", models.FloatField(default=1)),
                ("prefix_share", models.FloatField(default=0)),
                ("drift", models.JSONField(default=list)),
                ("drifting_since", models.DateTimeField(blank=True, null=True)),
                ("kept", models.JSONField(blank=True, null=True)),
                ("itl_factor", models.FloatField(default=1)),
                ("ttft_factor", models.FloatField(default=1)),
                ("correction", models.JSONField(default=dict)),
                ("replan", models.JSONField(blank=True, null=True)),
                (
                    "endpoint",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="load",
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
                "indexes": [
                    models.Index(
                        condition=models.Q(("drifting_since__isnull", False)),
                        fields=["tenant", "drifting_since"],
                        name="load_drifting",
                    )
                ],
            },
        ),
        isolate("clusters_loadobservation"),
    ]
