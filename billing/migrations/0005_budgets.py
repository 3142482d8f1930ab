"""The budget ledger: budgets, windows, leases, alerts."""

from decimal import Decimal

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.text
from django.db import migrations, models

import billing.models.budgets
import tenants.models.base
from tenants.isolation import isolate

# NOTIFY is delivered at commit. Gateways read budgets from their snapshots.
WAKE = """
CREATE FUNCTION berth_budget_wakes_gateways() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('berth_snapshot', '');
    RETURN NULL;
END $$;
CREATE TRIGGER billing_budget_wakes_gateways AFTER INSERT OR UPDATE OR DELETE ON billing_budget
FOR EACH STATEMENT EXECUTE FUNCTION berth_budget_wakes_gateways();
"""
NO_WAKE = """
DROP TRIGGER billing_budget_wakes_gateways ON billing_budget;
DROP FUNCTION berth_budget_wakes_gateways();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_load"),
        ("tenants", "0003_operator_answers"),
    ]

    operations = [
        migrations.CreateModel(
            name="Budget",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("name", models.CharField(max_length=80)),
                (
                    "owner_kind",
                    models.CharField(
                        choices=[("key", "Key"), ("project", "Project"), ("tenant", "Tenant")], max_length=8
                    ),
                ),
                ("owner_id", models.UUIDField()),
                ("unit", models.CharField(choices=[("money", "Money"), ("tokens", "Tokens")], max_length=8)),
                (
                    "currency",
                    models.CharField(
                        blank=True, help_text="Of a budget in money; blank for tokens.", max_length=3
                    ),
                ),
                (
                    "limit",
                    models.DecimalField(
                        decimal_places=16,
                        max_digits=32,
                        validators=[
                            django.core.validators.MinValueValidator(0),
                            django.core.validators.MaxValueValidator(Decimal("100000000000")),
                        ],
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        choices=[("day", "Day"), ("week", "Week"), ("month", "Month")], max_length=8
                    ),
                ),
                (
                    "alert_percents",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveSmallIntegerField(
                            validators=[
                                django.core.validators.MinValueValidator(1),
                                django.core.validators.MaxValueValidator(100),
                            ]
                        ),
                        blank=True,
                        default=billing.models.budgets.default_alerts,
                        size=10,
                    ),
                ),
                (
                    "active",
                    models.BooleanField(
                        default=True, help_text="Inactive: keeps its history and holds up nobody."
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
                "ordering": ["name"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="BudgetWindow",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("start", models.DateTimeField()),
                ("end", models.DateTimeField()),
                ("limit", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("granted", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("settled", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("held", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("excess", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("recalls", models.BigIntegerField(default=0)),
                ("recalled_at", models.DateTimeField(null=True)),
                ("questions", models.PositiveIntegerField(default=0)),
                ("alerted", models.PositiveSmallIntegerField(default=0)),
                (
                    "budget",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="windows",
                        to="billing.budget",
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
                "ordering": ["start"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="BudgetLease",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("lessee", models.CharField(max_length=64)),
                ("granted", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("settled", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("held", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("sequence", models.BigIntegerField(default=0)),
                ("reported_at", models.DateTimeField()),
                ("heard", models.BigIntegerField(default=0)),
                ("silent", models.BooleanField(default=False)),
                ("needed", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("asked_at", models.DateTimeField(null=True)),
                ("asked_sequence", models.BigIntegerField(default=0)),
                ("awaits", models.BigIntegerField(default=0)),
                ("round_at", models.DateTimeField(null=True)),
                ("last_round", models.BooleanField(default=False)),
                ("news", models.BooleanField(default=False)),
                ("offered", models.DecimalField(decimal_places=16, default=0, max_digits=32)),
                ("sure", models.BigIntegerField(default=0)),
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
                    "window",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="leases",
                        to="billing.budgetwindow",
                    ),
                ),
            ],
            options={
                "ordering": ["lessee"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="BudgetAlert",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("percent", models.PositiveSmallIntegerField()),
                ("reached_at", models.DateTimeField()),
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
                    "window",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alerts",
                        to="billing.budgetwindow",
                    ),
                ),
            ],
            options={
                "ordering": ["percent"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(
                models.F("tenant_id"),
                django.db.models.functions.text.Lower("name"),
                name="budget_name_in_tenant",
                violation_error_message="A budget of this name exists already; choose another name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("limit__gte", 0)), name="budget_limit_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("unit", "money"), models.Q(("currency", ""), _negated=True)),
                    models.Q(("currency", ""), ("unit", "tokens")),
                    _connector="OR",
                ),
                name="budget_money_has_a_currency",
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetwindow",
            constraint=models.UniqueConstraint(
                fields=("tenant", "budget", "start"), name="one_budget_window_per_start"
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetwindow",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "granted__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("limit"), "+", models.F("excess")
                        ),
                    )
                ),
                name="budget_grants_within_limit",
            ),
        ),
        migrations.AddIndex(
            model_name="budgetlease",
            index=models.Index(
                condition=models.Q(
                    ("granted__gt", models.F("settled")),
                    ("news", True),
                    ("asked_at__isnull", False),
                    _connector="OR",
                ),
                fields=["lessee"],
                name="budget_lease_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetlease",
            constraint=models.UniqueConstraint(
                fields=("tenant", "window", "lessee"), name="one_budget_lease_per_gateway"
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetlease",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "granted__gte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("settled"), "+", models.F("held")
                        ),
                    )
                ),
                name="budget_lease_covers_its_holds",
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetalert",
            constraint=models.UniqueConstraint(
                fields=("tenant", "window", "percent"), name="budget_alert_once"
            ),
        ),
        isolate("billing_budget"),
        isolate("billing_budgetwindow"),
        isolate("billing_budgetlease"),
        isolate("billing_budgetalert"),
        migrations.RunSQL(WAKE, NO_WAKE),
    ]
