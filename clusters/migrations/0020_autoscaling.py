"""Replicas that follow the load: bounds, schedules, decisions, and what classes say of it."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0019_rollouts"),
        ("tenants", "0010_identity"),
    ]

    operations = [
        migrations.CreateModel(
            name="EndpointScaling",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("enabled", models.BooleanField(default=False)),
                (
                    "floor",
                    models.PositiveSmallIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MaxValueValidator(64)]
                    ),
                ),
                (
                    "ceiling",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(64),
                        ],
                    ),
                ),
                (
                    "idle_s",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Seconds without requests until its last replicas go. Empty: as its class says.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(60)],
                    ),
                ),
                ("due_at", models.DateTimeField(blank=True, null=True)),
                ("wanted_at", models.DateTimeField(blank=True, null=True)),
                ("wants", models.PositiveSmallIntegerField(default=0)),
                (
                    "since",
                    models.DateTimeField(
                        auto_now_add=True, help_text="Since when it has as many replicas as it has."
                    ),
                ),
                ("quiet_since", models.DateTimeField(blank=True, null=True)),
                ("idle_since", models.DateTimeField(blank=True, null=True)),
                ("burnt", models.FloatField(blank=True, null=True)),
                ("burnt_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="ScaleSchedule",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("name", models.CharField(max_length=60)),
                (
                    "days",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveSmallIntegerField(
                            validators=[
                                django.core.validators.MinValueValidator(1),
                                django.core.validators.MaxValueValidator(7),
                            ]
                        ),
                        size=None,
                    ),
                ),
                ("from_time", models.TimeField()),
                ("until_time", models.TimeField()),
                ("time_zone", models.CharField(max_length=60)),
                (
                    "floor",
                    models.PositiveSmallIntegerField(
                        validators=[django.core.validators.MaxValueValidator(64)]
                    ),
                ),
                (
                    "ceiling",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(64),
                        ],
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="ScalingDecision",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("at", models.DateTimeField()),
                ("revision", models.PositiveIntegerField(help_text="Number of the revision.")),
                ("before", models.PositiveSmallIntegerField()),
                ("after", models.PositiveSmallIntegerField()),
                (
                    "outcome",
                    models.CharField(choices=[("done", "Done"), ("refused", "Not possible")], max_length=8),
                ),
                ("why", models.CharField(max_length=20)),
                ("reason", models.CharField(max_length=600)),
                ("currency", models.CharField(max_length=3)),
                ("price_before", models.DecimalField(decimal_places=6, help_text="Per hour.", max_digits=20)),
                ("price_after", models.DecimalField(decimal_places=6, help_text="Per hour.", max_digits=20)),
            ],
            options={
                "ordering": ["-id"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddField(
            model_name="nodepool",
            name="higher_share",
            field=models.PositiveSmallIntegerField(
                default=50,
                help_text="Percent of the GPUs that endpoints of higher classes may still grow to, left free by lower ones.",
                validators=[django.core.validators.MaxValueValidator(100)],
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="grown_from",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="How many replicas it had before more were wanted, until those answer.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="shrunk_at",
            field=models.DateTimeField(
                blank=True,
                help_text="Since when it wants fewer replicas; its cluster is told once gateways send those none.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="high_water",
            field=models.FloatField(
                default=0.8,
                help_text="Share of the requests that replicas work on at once, above which there are to be more.",
                validators=[
                    django.core.validators.MinValueValidator(0.1),
                    django.core.validators.MaxValueValidator(1.0),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="idle_to_zero_s",
            field=models.PositiveIntegerField(
                default=900,
                help_text="Seconds without requests until the last replicas go, where the endpoint says nothing else.",
                validators=[django.core.validators.MinValueValidator(60)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="low_water",
            field=models.FloatField(
                default=0.5,
                help_text="Share up to which the other replicas would be loaded without one, for it to be given back.",
                validators=[
                    django.core.validators.MinValueValidator(0.05),
                    django.core.validators.MaxValueValidator(0.95),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="may_scale_to_zero",
            field=models.BooleanField(
                default=False, help_text="Endpoints that get no requests may give all their GPUs back."
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="quiet_s",
            field=models.PositiveIntegerField(
                default=300,
                help_text="Seconds that this must be so before one is given back.",
                validators=[django.core.validators.MinValueValidator(30)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="wake_hold_s",
            field=models.FloatField(
                default=300,
                help_text="Seconds that requests are held while an endpoint that was scaled to zero wakes.",
                validators=[
                    django.core.validators.MinValueValidator(0.0),
                    django.core.validators.MaxValueValidator(600.0),
                ],
            ),
        ),
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
                    ("Approved", "Approved"),
                    ("WithinPolicy", "Policy"),
                    ("Scaling", "Scaling"),
                ],
                max_length=32,
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
                    ("scaled-to-zero", "Scaled to zero"),
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
        migrations.AddConstraint(
            model_name="sloclass",
            constraint=models.CheckConstraint(
                condition=models.Q(("low_water__lt", models.F("high_water"))), name="slo_low_below_high_water"
            ),
        ),
        migrations.AddField(
            model_name="endpointscaling",
            name="endpoint",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE, related_name="scaling", to="clusters.endpoint"
            ),
        ),
        migrations.AddField(
            model_name="endpointscaling",
            name="tenant",
            field=models.ForeignKey(
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="scaleschedule",
            name="endpoint",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="schedules", to="clusters.endpoint"
            ),
        ),
        migrations.AddField(
            model_name="scaleschedule",
            name="tenant",
            field=models.ForeignKey(
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="scalingdecision",
            name="endpoint",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="scaling_decisions",
                to="clusters.endpoint",
            ),
        ),
        migrations.AddField(
            model_name="scalingdecision",
            name="tenant",
            field=models.ForeignKey(
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddIndex(
            model_name="endpointscaling",
            index=models.Index(condition=models.Q(("enabled", True)), fields=["due_at"], name="scaling_due"),
        ),
        migrations.AddConstraint(
            model_name="endpointscaling",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("floor", None), ("ceiling", None), ("floor__lte", models.F("ceiling")), _connector="OR"
                ),
                name="scaling_floor_below_ceiling",
            ),
        ),
        migrations.AddConstraint(
            model_name="scaleschedule",
            constraint=models.UniqueConstraint(
                models.F("tenant"),
                models.F("endpoint"),
                django.db.models.functions.text.Lower("name"),
                name="schedule_name_of_endpoint",
                violation_error_message="A schedule of this name exists already; choose another name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="scaleschedule",
            constraint=models.CheckConstraint(
                condition=models.Q(("ceiling", None), ("floor__lte", models.F("ceiling")), _connector="OR"),
                name="schedule_floor_below_ceiling",
            ),
        ),
        migrations.AddIndex(
            model_name="scalingdecision",
            index=models.Index(fields=["tenant", "endpoint", "-id"], name="scaling_history"),
        ),
        *(isolate(f"clusters_{table}") for table in ("endpointscaling", "scaleschedule", "scalingdecision")),
        # Who is promised a first token within two seconds is not kept waiting for an engine to load.
        migrations.RunSQL(
            "UPDATE clusters_sloclass SET may_scale_to_zero = true"
            " WHERE ttft_p95_ms IS NULL OR ttft_p95_ms >= 2000",
            migrations.RunSQL.noop,
        ),
    ]
