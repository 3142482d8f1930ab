"""Evaluation sets with their versions, and what came of asking revisions."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate, never_changes


def shown_to_tenants(table: str) -> migrations.RunSQL:
    """Let every tenant read the rows of ``table`` that are the platform's, and not write them."""
    return migrations.RunSQL(
        f"""
        CREATE POLICY shown_to_tenants ON {table} FOR SELECT USING (
            tenant_id IS NULL AND (SELECT nullif(current_setting('berth.tenant', true), '')) IS NOT NULL
        );
        """,
        f"DROP POLICY shown_to_tenants ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0022_configuration"),
        ("tenants", "0011_keys_of_revisions"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="sloclass",
            name="needs_evaluation",
            field=models.BooleanField(
                default=False,
                help_text="A change that asks for an evaluation is refused where there is no set for it.",
            ),
        ),
        migrations.CreateModel(
            name="EvaluationSet",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("name", models.CharField(max_length=80)),
                ("version", models.PositiveIntegerField(default=1)),
                ("removed_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "endpoint",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="evaluation_sets",
                        to="clusters.endpoint",
                    ),
                ),
                (
                    "model",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="evaluation_sets",
                        to="clusters.catalogmodel",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["name", "id"],
            },
        ),
        migrations.CreateModel(
            name="EvaluationVersion",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("number", models.PositiveIntegerField()),
                ("sealed", models.BinaryField()),
                ("prompts", models.PositiveSmallIntegerField(help_text="How many there are.")),
                ("checks", models.PositiveSmallIntegerField(help_text="How many there are, of all prompts.")),
                (
                    "compares",
                    models.BooleanField(
                        default=False, help_text="Whether the old revision is asked as well."
                    ),
                ),
                (
                    "pass_percent",
                    models.DecimalField(
                        blank=True,
                        decimal_places=2,
                        max_digits=5,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "most_drop",
                    models.DecimalField(
                        blank=True,
                        decimal_places=2,
                        max_digits=5,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "made_as",
                    models.CharField(help_text="How the history names whoever made it.", max_length=120),
                ),
                (
                    "set",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="clusters.evaluationset",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["set", "-number"],
            },
        ),
        migrations.CreateModel(
            name="EvaluationRun",
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
                            ("pending", "Pending"),
                            ("running", "Running"),
                            ("passed", "Passed"),
                            ("failed", "Failed"),
                            ("waived", "Waived"),
                            ("error", "Could not be run"),
                        ],
                        default="pending",
                        max_length=8,
                    ),
                ),
                (
                    "message",
                    models.CharField(blank=True, help_text="Why it is not passed, or waits.", max_length=300),
                ),
                (
                    "asked_as",
                    models.CharField(blank=True, help_text="Empty: a rollout wanted it.", max_length=120),
                ),
                ("pass_percent", models.DecimalField(decimal_places=2, max_digits=5, null=True)),
                ("most_drop", models.DecimalField(decimal_places=2, max_digits=5, null=True)),
                (
                    "score",
                    models.DecimalField(decimal_places=2, help_text="Percent.", max_digits=5, null=True),
                ),
                (
                    "score_before",
                    models.DecimalField(
                        decimal_places=2, help_text="Percent, of the old revision.", max_digits=5, null=True
                    ),
                ),
                ("results", models.JSONField(default=list)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                (
                    "cost",
                    models.DecimalField(
                        decimal_places=10,
                        help_text="At token prices; null where there are none.",
                        max_digits=20,
                        null=True,
                    ),
                ),
                ("currency", models.CharField(blank=True, max_length=3)),
                (
                    "keys",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(), default=list, size=None
                    ),
                ),
                ("sealed", models.BinaryField(null=True)),
                ("due_at", models.DateTimeField(null=True)),
                (
                    "failing_since",
                    models.DateTimeField(help_text="Since when no gateway answers.", null=True),
                ),
                ("began_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("decided_as", models.CharField(blank=True, max_length=120)),
                ("decided_at", models.DateTimeField(null=True)),
                ("note", models.CharField(blank=True, help_text="Why it was accepted.", max_length=300)),
                (
                    "before",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="clusters.revision",
                    ),
                ),
                (
                    "decided_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="evaluations",
                        to="clusters.endpoint",
                    ),
                ),
                (
                    "revision",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="evaluations",
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
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="runs",
                        to="clusters.evaluationversion",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddIndex(
            model_name="evaluationset",
            index=models.Index(fields=["tenant", "model"], name="evaluation_sets_of_tenant"),
        ),
        migrations.AddConstraint(
            model_name="evaluationset",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("endpoint", None), ("model__isnull", False)),
                    models.Q(("endpoint__isnull", False), ("model", None), ("tenant__isnull", False)),
                    _connector="OR",
                ),
                name="evaluation_set_of_model_or_endpoint",
            ),
        ),
        migrations.AddConstraint(
            model_name="evaluationset",
            constraint=models.UniqueConstraint(
                models.F("tenant"),
                models.F("model"),
                models.F("endpoint"),
                django.db.models.functions.text.Lower("name"),
                condition=models.Q(("removed_at", None)),
                name="evaluation_set_name_once",
                nulls_distinct=False,
                violation_error_message="There is an evaluation set of this name already; choose another name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="evaluationversion",
            constraint=models.UniqueConstraint(
                fields=("tenant", "set", "number"), name="evaluation_version_once", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            model_name="evaluationversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("pass_percent__isnull", False), ("most_drop__isnull", False), _connector="OR"
                ),
                name="evaluation_version_demands_something",
            ),
        ),
        migrations.AddIndex(
            model_name="evaluationrun",
            index=models.Index(
                condition=models.Q(("state__in", ["pending", "running"])),
                fields=["due_at"],
                name="evaluations_due",
            ),
        ),
        migrations.AddIndex(
            model_name="evaluationrun",
            index=models.Index(fields=["tenant", "endpoint", "-id"], name="evaluations_of_endpoint"),
        ),
        migrations.AddConstraint(
            model_name="evaluationrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["pending", "running"])),
                fields=("tenant", "revision", "version"),
                name="evaluation_runs_once_at_a_time",
            ),
        ),
        isolate("clusters_evaluationset"),
        shown_to_tenants("clusters_evaluationset"),
        isolate("clusters_evaluationversion"),
        shown_to_tenants("clusters_evaluationversion"),
        isolate("clusters_evaluationrun"),
        # Rotation seals the prompts anew; nothing else of a version ever changes.
        never_changes(
            "clusters_evaluationversion",
            "tenant_id, set_id, number, prompts, checks, compares, pass_percent, most_drop, made_as",
        ),
    ]
