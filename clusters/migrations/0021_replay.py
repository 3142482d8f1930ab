"""What replays measured on pools: rows of the planner's table."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0020_autoscaling"),
    ]

    operations = [
        migrations.CreateModel(
            name="PoolMeasurement",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("runtime", models.CharField(max_length=40)),
                ("engine_version", models.CharField(blank=True, max_length=40)),
                ("precision", models.CharField(max_length=16)),
                ("tensor_parallel", models.PositiveSmallIntegerField()),
                ("pipeline_parallel", models.PositiveSmallIntegerField()),
                ("replicas", models.PositiveIntegerField()),
                ("max_batch_size", models.PositiveIntegerField()),
                ("max_num_tokens", models.PositiveIntegerField()),
                ("digest", models.CharField(max_length=64)),
                ("target", models.CharField(max_length=120)),
                ("speed", models.FloatField()),
                ("measured_at", models.DateTimeField()),
                ("measured_by", models.CharField(max_length=200)),
                ("requests", models.PositiveIntegerField()),
                ("failed_percent", models.FloatField()),
                ("seconds", models.FloatField()),
                ("requests_per_second", models.FloatField()),
                ("input_tokens", models.PositiveIntegerField()),
                ("output_tokens", models.PositiveIntegerField()),
                ("input_cv", models.FloatField()),
                ("output_cv", models.FloatField()),
                ("burstiness", models.FloatField()),
                ("prefix_share", models.FloatField()),
                ("in_flight", models.FloatField(help_text="Requests at once at each replica, on average.")),
                ("output_tokens_per_s_per_gpu", models.FloatField()),
                ("ttft_mean_ms", models.FloatField()),
                ("ttft_p50_ms", models.FloatField()),
                ("ttft_p95_ms", models.FloatField()),
                ("ttft_p99_ms", models.FloatField()),
                ("itl_mean_ms", models.FloatField()),
                ("itl_p50_ms", models.FloatField()),
                ("itl_p95_ms", models.FloatField()),
                ("itl_p99_ms", models.FloatField()),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="measurements",
                        to="clusters.catalogmodel",
                    ),
                ),
                (
                    "pool",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="measurements",
                        to="clusters.nodepool",
                    ),
                ),
            ],
            options={
                "ordering": ["-measured_at", "-id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("pool", "digest", "target", "speed"), name="pool_measurement_once"
                    )
                ],
            },
        ),
    ]
