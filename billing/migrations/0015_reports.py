"""What operators' reports read: GPU time, tokens and money by day and month."""

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models

from tenants.isolation import PLATFORM_RULE, isolate


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0014_statements"),
        ("tenants", "0004_gateway_policies"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndpointDay",
            fields=[
                ("queued", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("loading", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("serving", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("idle", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("draining", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("held", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                ("planned_tokens", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("planned_seconds", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("currency", models.CharField(max_length=3)),
                ("amount", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("asset_currency", models.CharField(blank=True, max_length=3)),
                ("asset_cost", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("idle_asset_cost", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("project_id", models.UUIDField()),
                ("endpoint_id", models.UUIDField()),
                ("cluster", models.CharField(max_length=80)),
                ("region", models.CharField(max_length=40)),
                ("pool", models.CharField(max_length=40)),
                ("gpu_type", models.CharField(max_length=40)),
                ("model", models.CharField(blank=True, max_length=80)),
                ("slo_class", models.CharField(blank=True, max_length=40)),
                ("day", models.DateField()),
                ("revision_id", models.UUIDField()),
            ],
            options={
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="EndpointMonth",
            fields=[
                ("queued", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("loading", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("serving", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("idle", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("draining", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("held", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                ("planned_tokens", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("planned_seconds", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("currency", models.CharField(max_length=3)),
                ("amount", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("asset_currency", models.CharField(blank=True, max_length=3)),
                ("asset_cost", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("idle_asset_cost", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("project_id", models.UUIDField()),
                ("endpoint_id", models.UUIDField()),
                ("cluster", models.CharField(max_length=80)),
                ("region", models.CharField(max_length=40)),
                ("pool", models.CharField(max_length=40)),
                ("gpu_type", models.CharField(max_length=40)),
                ("model", models.CharField(blank=True, max_length=80)),
                ("slo_class", models.CharField(blank=True, max_length=40)),
                ("month", models.DateField()),
            ],
            options={
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="ModelDay",
            fields=[
                ("queued", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("loading", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("serving", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("idle", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("draining", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("held", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                ("planned_tokens", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("planned_seconds", models.DecimalField(decimal_places=6, default=0, max_digits=24)),
                ("currency", models.CharField(max_length=3)),
                ("amount", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("asset_currency", models.CharField(blank=True, max_length=3)),
                ("asset_cost", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("idle_asset_cost", models.DecimalField(decimal_places=15, default=0, max_digits=40)),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("day", models.DateField()),
                ("model", models.CharField(blank=True, max_length=80)),
                ("slo_class", models.CharField(blank=True, max_length=40)),
                ("gpu_type", models.CharField(max_length=40)),
            ],
        ),
        migrations.CreateModel(
            name="ReportDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("kept_at", models.DateTimeField()),
            ],
        ),
        migrations.AddIndex(
            model_name="usageday",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["bucket"], name="usage_day_bucket", pages_per_range=32
            ),
        ),
        migrations.AddField(
            model_name="endpointday",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="endpointmonth",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelday",
            constraint=models.UniqueConstraint(
                fields=("day", "model", "slo_class", "gpu_type", "currency", "asset_currency"),
                name="model_day_once",
            ),
        ),
        migrations.AddIndex(
            model_name="endpointday",
            index=models.Index(
                fields=["day"],
                include=["tenant", "project_id", "endpoint_id", "held", "serving", "amount"],
                name="endpoint_day_ranks",
            ),
        ),
        migrations.AddConstraint(
            model_name="endpointday",
            constraint=models.UniqueConstraint(
                fields=(
                    "tenant",
                    "day",
                    "endpoint_id",
                    "revision_id",
                    "project_id",
                    "cluster",
                    "pool",
                    "gpu_type",
                    "asset_currency",
                ),
                name="endpoint_day_once",
            ),
        ),
        migrations.AddIndex(
            model_name="endpointmonth",
            index=models.Index(fields=["month"], name="endpoint_month_month"),
        ),
        migrations.AddConstraint(
            model_name="endpointmonth",
            constraint=models.UniqueConstraint(
                fields=(
                    "tenant",
                    "month",
                    "endpoint_id",
                    "project_id",
                    "cluster",
                    "region",
                    "pool",
                    "gpu_type",
                    "model",
                    "slo_class",
                    "currency",
                    "asset_currency",
                ),
                name="endpoint_month_once",
            ),
        ),
        isolate("billing_endpointday"),
        isolate("billing_endpointmonth"),
        isolate("billing_modelday", PLATFORM_RULE),
    ]
