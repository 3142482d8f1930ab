"""Rollouts, and how the classes want them; those with a latency target are replaced with an outage at night only."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import clusters.models.slo
import tenants.models.base
from tenants.isolation import isolate


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0018_evidence"),
        ("tenants", "0010_identity"),
    ]

    operations = [
        migrations.AddField(
            model_name="revision",
            name="terms",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="Of the order as it was planned by: what is the order's again when this is restored.",
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_cost_factor",
            field=models.FloatField(
                blank=True,
                default=1.25,
                help_text="Times the cost per million tokens of the old revision. Empty: not judged.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1.0),
                    django.core.validators.MaxValueValidator(100.0),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_days",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(
                    validators=[django.core.validators.MaxValueValidator(6)]
                ),
                blank=True,
                default=list,
                help_text="Days, 0 (Monday) to 6, on which what runs may be replaced with an outage. Empty: every day.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_error_points",
            field=models.FloatField(
                blank=True,
                default=0.5,
                help_text="Percentage points of failed requests above the old revision. Empty: not judged.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0.0),
                    django.core.validators.MaxValueValidator(100.0),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_from_hour",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="Of UTC.", validators=[django.core.validators.MaxValueValidator(23)]
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_itl_factor",
            field=models.FloatField(
                blank=True,
                default=1.25,
                help_text="Times the ITL p95 of the old revision. Empty: not judged.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1.0),
                    django.core.validators.MaxValueValidator(100.0),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_little_traffic",
            field=models.CharField(
                choices=[("hold", "Hold it until somebody decides"), ("promote", "Go on with it")],
                default="hold",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_patience_s",
            field=models.PositiveIntegerField(
                default=3600,
                help_text="After this long in a step too few requests are taken for little traffic.",
                validators=[django.core.validators.MaxValueValidator(2592000)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_requests",
            field=models.PositiveIntegerField(
                default=200,
                help_text="Requests of either revision in a step that are enough to tell.",
                validators=[
                    django.core.validators.MinValueValidator(60),
                    django.core.validators.MaxValueValidator(1000000),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_start_s",
            field=models.PositiveIntegerField(
                default=3600,
                help_text="A new revision that does not serve after this long is given up.",
                validators=[
                    django.core.validators.MinValueValidator(10),
                    django.core.validators.MaxValueValidator(604800),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_step_s",
            field=models.PositiveIntegerField(
                default=300,
                help_text="A step takes at least this long.",
                validators=[django.core.validators.MaxValueValidator(604800)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_steps",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(
                    validators=[
                        django.core.validators.MinValueValidator(1),
                        django.core.validators.MaxValueValidator(99),
                    ]
                ),
                blank=True,
                default=clusters.models.slo.canary_steps,
                help_text="Percent of requests that a new revision gets, one step after the other. Empty: all at once.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_ttft_factor",
            field=models.FloatField(
                blank=True,
                default=1.25,
                help_text="Times the TTFT p95 of the old revision. Empty: not judged.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1.0),
                    django.core.validators.MaxValueValidator(100.0),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_until_hour",
            field=models.PositiveSmallIntegerField(
                default=24,
                help_text="Of UTC; not after the first hour: past midnight.",
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(24),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="rollout_ways",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("surge", "Beside what runs"),
                        ("borrow", "In place of its own replicas, a few at a time"),
                        ("replace", "In place of what runs, with an outage"),
                    ],
                    max_length=8,
                ),
                default=clusters.models.slo.all_ways,
                help_text="How a new revision may find its GPUs, in the order in which that is tried.",
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="endpoint",
            name="state",
            field=models.CharField(
                choices=[
                    ("waiting-for-approval", "Waiting for approval"),
                    ("waiting-for-capacity", "Waiting for capacity"),
                    ("provisioning", "Provisioning"),
                    ("ready", "Ready"),
                    ("updating", "Updating"),
                    ("degraded", "Degraded"),
                    ("paused", "Paused"),
                    ("unreachable", "Unreachable"),
                    ("failed", "Failed"),
                    ("update-failed", "Update failed"),
                    ("deleting", "Deleting"),
                    ("deleted", "Deleted"),
                ],
                default="provisioning",
                max_length=32,
            ),
        ),
        migrations.CreateModel(
            name="Rollout",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("what", models.CharField(help_text="What changes, in words.", max_length=300)),
                (
                    "way",
                    models.CharField(
                        choices=[
                            ("surge", "Beside what runs"),
                            ("borrow", "In place of its own replicas, a few at a time"),
                            ("replace", "In place of what runs, with an outage"),
                        ],
                        max_length=8,
                    ),
                ),
                (
                    "replicas",
                    models.PositiveSmallIntegerField(
                        blank=True, help_text="Of the new revision, once all its room is made.", null=True
                    ),
                ),
                (
                    "lent",
                    models.PositiveSmallIntegerField(
                        default=0, help_text="Replicas of what runs that were let go to make room."
                    ),
                ),
                ("policy", models.JSONField()),
                (
                    "phase",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("starting", "Starting"),
                            ("evaluating", "Evaluating"),
                            ("canary", "Canary"),
                            ("promoted", "Promoted"),
                            ("rolled-back", "Rolled back"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        max_length=12,
                    ),
                ),
                ("phase_since", models.DateTimeField()),
                ("step", models.PositiveSmallIntegerField(default=0)),
                ("step_since", models.DateTimeField(blank=True, null=True)),
                ("weight", models.PositiveSmallIntegerField(default=0)),
                ("counted", models.JSONField(default=dict)),
                ("verdict", models.JSONField(default=dict)),
                ("reason", models.CharField(blank=True, max_length=1000)),
                ("wish", models.JSONField(default=dict)),
                ("back", models.JSONField(default=dict)),
                ("outage_s", models.FloatField(blank=True, null=True)),
                (
                    "outage_from",
                    models.CharField(
                        blank=True, help_text="What the expected outage is known from.", max_length=200
                    ),
                ),
                ("started_at", models.DateTimeField()),
                ("started_by", models.CharField(max_length=120)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("ended_by", models.CharField(blank=True, help_text="Empty: Berth.", max_length=120)),
                (
                    "dismissed_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="Since when its failure is no longer shown as the endpoint's state.",
                        null=True,
                    ),
                ),
                (
                    "before",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="clusters.revision"
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rollouts",
                        to="clusters.endpoint",
                    ),
                ),
                (
                    "revision",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="rollouts",
                        to="clusters.revision",
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
                "ordering": ["-id"],
                "abstract": False,
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["tenant", "endpoint", "-id"], name="rollouts_of_endpoint")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("phase__in", ["waiting", "starting", "evaluating", "canary"])),
                        fields=("tenant", "endpoint"),
                        name="one_rollout_at_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("weight__lte", 100)), name="rollout_weight_is_a_share"
                    ),
                ],
            },
        ),
        isolate("clusters_rollout"),
        migrations.RunSQL(
            """
            UPDATE clusters_sloclass SET rollout_ttft_factor = NULL, rollout_itl_factor = NULL
            WHERE ttft_p95_ms IS NULL AND itl_p95_ms IS NULL;
            UPDATE clusters_sloclass SET rollout_from_hour = 2, rollout_until_hour = 5
            WHERE ttft_p95_ms IS NOT NULL OR itl_p95_ms IS NOT NULL;
            """,
            migrations.RunSQL.noop,
        ),
    ]
