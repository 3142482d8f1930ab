"""The advisor's rows, seen in the platform's scope only, and how long endpoints wait for capacity."""

from decimal import Decimal

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import PLATFORM_RULE, isolate


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0006_load"),
        ("tenants", "0003_operator_answers"),
    ]

    operations = [
        migrations.CreateModel(
            name="AdvicePolicy",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("single", models.BooleanField(default=True, editable=False, unique=True)),
                (
                    "least_saving_percent",
                    models.DecimalField(
                        decimal_places=2,
                        default=Decimal("5"),
                        help_text="A move saves at least this share of what the endpoint costs.",
                        max_digits=5,
                        validators=[
                            django.core.validators.MinValueValidator(Decimal("0")),
                            django.core.validators.MaxValueValidator(Decimal("100")),
                        ],
                    ),
                ),
                (
                    "least_saving_per_hour",
                    models.DecimalField(
                        decimal_places=4,
                        default=Decimal("0.10"),
                        help_text="And at least this much money per hour.",
                        max_digits=12,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                    ),
                ),
                (
                    "payback_days",
                    models.PositiveSmallIntegerField(
                        default=7,
                        help_text="Within so many days a move has earned what its rollout costs.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(365),
                        ],
                    ),
                ),
                (
                    "cool_down_hours",
                    models.PositiveSmallIntegerField(
                        default=24,
                        help_text="An endpoint that was changed stays where it is for so long.",
                        validators=[django.core.validators.MaxValueValidator(8760)],
                    ),
                ),
                (
                    "concurrent_moves",
                    models.PositiveSmallIntegerField(
                        default=2,
                        help_text="So many endpoints are moved at a time; the others wait for their turn.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "solve_limit_s",
                    models.PositiveSmallIntegerField(
                        default=60,
                        help_text="How long the solver may look for a better placement.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(600),
                        ],
                        verbose_name="time limit (s)",
                    ),
                ),
                ("automatic", models.BooleanField(default=False, verbose_name="apply without asking")),
                (
                    "replan_drift",
                    models.BooleanField(
                        default=False,
                        help_text="Also orders whose load has drifted, where that saves enough. It changes what was ordered.",
                        verbose_name="plan anew by measured load",
                    ),
                ),
                (
                    "days",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveSmallIntegerField(
                            validators=[django.core.validators.MaxValueValidator(6)]
                        ),
                        blank=True,
                        default=list,
                        help_text="Empty: every day.",
                        size=None,
                    ),
                ),
                (
                    "from_hour",
                    models.PositiveSmallIntegerField(
                        default=0, validators=[django.core.validators.MaxValueValidator(23)]
                    ),
                ),
                (
                    "until_hour",
                    models.PositiveSmallIntegerField(
                        default=24,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(24),
                        ],
                    ),
                ),
                (
                    "automatic_saving_per_hour",
                    models.DecimalField(
                        decimal_places=4,
                        default=Decimal("1"),
                        help_text="Only moves that save at least this much per hour are applied unasked.",
                        max_digits=12,
                        validators=[django.core.validators.MinValueValidator(Decimal("0"))],
                    ),
                ),
                (
                    "moves_per_day",
                    models.PositiveSmallIntegerField(
                        default=10,
                        help_text="So many moves are begun unasked in 24 hours.",
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                (
                    "run_every_hours",
                    models.PositiveSmallIntegerField(
                        default=6,
                        help_text="How often the fleet is planned anew within the window.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(720),
                        ],
                    ),
                ),
            ],
            options={
                "verbose_name": "advice policy",
                "verbose_name_plural": "advice policies",
            },
        ),
        migrations.CreateModel(
            name="AdviceRun",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting for a worker"),
                            ("running", "Running"),
                            ("finished", "Finished"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=12,
                    ),
                ),
                ("state_reason", models.CharField(blank=True, max_length=500)),
                ("started_by", models.CharField(help_text="Who asked for it.", max_length=120)),
                ("automatic", models.BooleanField(default=False)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("endpoints", models.PositiveIntegerField(default=0, help_text="So many could be moved.")),
                ("kept", models.JSONField(default=dict)),
                ("totals", models.JSONField(default=list)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="AdviceMove",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("number", models.PositiveIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("move", "Move"), ("replan", "Plan anew"), ("place", "Place")],
                        default="move",
                        max_length=8,
                    ),
                ),
                ("step", models.PositiveSmallIntegerField(default=1)),
                ("from_revision", models.PositiveIntegerField(blank=True, null=True)),
                ("before", models.JSONField(blank=True, null=True)),
                ("after", models.JSONField()),
                ("currency", models.CharField(max_length=3)),
                ("cost_before", models.DecimalField(decimal_places=6, default=Decimal("0"), max_digits=14)),
                ("cost_after", models.DecimalField(decimal_places=6, max_digits=14)),
                ("saving", models.DecimalField(decimal_places=6, max_digits=14)),
                ("rollout_cost", models.DecimalField(decimal_places=6, default=Decimal("0"), max_digits=14)),
                (
                    "load_s",
                    models.FloatField(default=0, help_text="How long both run side by side, as expected."),
                ),
                ("payback_h", models.FloatField(blank=True, null=True)),
                ("risks", models.JSONField(default=list)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("proposed", "Proposed"),
                            ("accepted", "Waiting for its turn"),
                            ("applying", "Applying"),
                            ("applied", "Applied"),
                            ("refused", "Refused"),
                            ("dismissed", "Dismissed"),
                            ("outdated", "Outdated"),
                        ],
                        default="proposed",
                        max_length=12,
                    ),
                ),
                ("state_reason", models.CharField(blank=True, max_length=500)),
                ("state_since", models.DateTimeField(auto_now_add=True)),
                ("decided_by", models.CharField(blank=True, max_length=120)),
                ("begun_at", models.DateTimeField(blank=True, null=True)),
                ("begun_unasked", models.BooleanField(default=False)),
                ("revision", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="clusters.endpoint"
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="moves",
                        to="clusters.advicerun",
                    ),
                ),
            ],
            options={
                "ordering": ["run", "number"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["accepted", "applying"])),
                        fields=["state"],
                        name="advice_move_under_way",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("run", "number"), name="advice_move_number"),
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["accepted", "applying"])),
                        fields=("endpoint",),
                        name="one_move_per_endpoint",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CapacityWait",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "pools",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=81), default=list, size=None
                    ),
                ),
                ("alternatives", models.JSONField(default=list)),
                (
                    "offered_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Since when others leave it GPUs that it has not taken.",
                        null=True,
                    ),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("pool", models.CharField(blank=True, max_length=81)),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="waits",
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
                        condition=models.Q(("ended_at", None)), fields=["created_at"], name="waits_open"
                    ),
                    models.Index(
                        condition=models.Q(("ended_at__isnull", False)),
                        fields=["ended_at"],
                        name="waits_over",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)),
                        fields=("tenant", "endpoint"),
                        name="one_wait_at_once",
                    )
                ],
            },
        ),
        isolate("clusters_advicerun", PLATFORM_RULE),
        isolate("clusters_advicemove", PLATFORM_RULE),
        isolate("clusters_capacitywait"),
    ]
