"""What endpoints could save, as it was found."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0013_gpus_seen"),
        ("tenants", "0004_gateway_policies"),
    ]

    operations = [
        migrations.CreateModel(
            name="Saving",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("idle", "Idle endpoint"),
                            ("oversized", "More GPUs than its load needs"),
                            ("cheaper-gpu", "Cheaper GPU type"),
                        ],
                        max_length=16,
                    ),
                ),
                ("what", models.CharField(max_length=300)),
                ("amount", models.DecimalField(decimal_places=4, max_digits=20)),
                ("currency", models.CharField(max_length=3)),
                ("asset_amount", models.DecimalField(decimal_places=4, max_digits=20, null=True)),
                ("asset_currency", models.CharField(blank=True, max_length=3)),
                (
                    "gpu_hours",
                    models.DecimalField(decimal_places=4, help_text="Given back in 30 days.", max_digits=20),
                ),
                ("how", models.JSONField(default=list)),
                ("computed_at", models.DateTimeField()),
                ("dismissed_until", models.DateTimeField(blank=True, null=True)),
                ("dismissed_reason", models.CharField(blank=True, max_length=300)),
                ("dismissed_by", models.CharField(blank=True, max_length=254)),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="savings",
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
                "ordering": ["-amount", "id"],
                "abstract": False,
                "base_manager_name": "objects",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "endpoint", "kind"), name="one_saving_of_a_kind"
                    ),
                    models.CheckConstraint(condition=models.Q(("amount__gt", 0)), name="saving_is_positive"),
                ],
            },
        ),
        isolate("clusters_saving"),
    ]
