"""What tenants let themselves use, and who has to agree to what."""

import datetime

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.expressions
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate, never_changes


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0016_operators"),
        ("tenants", "0005_webhooks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="endpoint",
            name="cleared",
            field=models.BooleanField(
                default=True,
                help_text="The rules of approval were asked about where it is placed first, or after a pause.",
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="policy_exceptions",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.UUIDField(),
                blank=True,
                default=list,
                help_text="Exceptions that held for it then.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="revision",
            name="policy_version",
            field=models.PositiveIntegerField(
                default=0, help_text="Of the tenant's policy under which it was placed. 0: there was none."
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
                    ("unreachable", "Unreachable"),
                    ("failed", "Failed"),
                    ("deleting", "Deleting"),
                    ("deleted", "Deleted"),
                ],
                default="provisioning",
                max_length=32,
            ),
        ),
        migrations.CreateModel(
            name="ApprovalRequest",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "what",
                    models.CharField(
                        choices=[
                            ("order", "Order"),
                            ("scale", "Scale"),
                            ("resume", "Resume"),
                            ("replan", "Plan anew"),
                            ("restore", "Restore"),
                            ("move", "Move"),
                            ("exception", "Exception from the policy"),
                            ("policy", "Change of the policy"),
                            ("rule", "Change of a rule"),
                        ],
                        max_length=12,
                    ),
                ),
                ("title", models.CharField(max_length=200)),
                ("wish", models.JSONField(default=dict)),
                ("quote", models.JSONField(default=dict)),
                ("trips", models.JSONField(default=list)),
                ("round", models.PositiveSmallIntegerField(default=1)),
                (
                    "behind",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(),
                        blank=True,
                        default=list,
                        help_text="People who made the key or service account that asked: they count as having asked, too.",
                        size=None,
                    ),
                ),
                ("asked_as", models.CharField(max_length=120)),
                (
                    "generation",
                    models.PositiveIntegerField(
                        help_text="Of the endpoint when it was asked for.", null=True
                    ),
                ),
                ("expires_at", models.DateTimeField()),
                ("reminded_at", models.DateTimeField(null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("changed", "Changed and approved"),
                            ("refused", "Refused"),
                            ("expired", "Expired"),
                            ("withdrawn", "Withdrawn"),
                            ("superseded", "Superseded"),
                        ],
                        default="pending",
                        max_length=12,
                    ),
                ),
                ("decided_as", models.CharField(blank=True, max_length=120)),
                ("decided_at", models.DateTimeField(null=True)),
                (
                    "decided_via",
                    models.CharField(blank=True, help_text="portal, api, link or console.", max_length=8),
                ),
                ("comment", models.CharField(blank=True, max_length=500)),
                ("changed", models.JSONField(default=dict, help_text="What whoever decided changed of it.")),
                (
                    "asked_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "decided_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="approvals",
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
                "ordering": ["-id"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="ApprovalRule",
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
                            ("price-above", "Price above"),
                            ("quota-above", "GPUs above"),
                            ("outside-home-zone", "Outside the home zone"),
                            ("reserved-gpus", "Reserved GPUs"),
                            ("new-model-licence", "A licence that is new here"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "amount",
                    models.DecimalField(
                        blank=True,
                        decimal_places=4,
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                ("monthly", models.BooleanField(default=False)),
                ("gpus", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "share",
                    models.PositiveSmallIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100),
                        ],
                    ),
                ),
                (
                    "gpu_types",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                (
                    "pools",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=81), blank=True, default=list, size=None
                    ),
                ),
                (
                    "decides",
                    models.CharField(
                        choices=[
                            ("owner", "An owner"),
                            ("admin", "An owner or admin"),
                            ("billing", "An owner or the billing role"),
                            ("members", "Named members"),
                            ("operators", "The platform's operators"),
                        ],
                        default="admin",
                        max_length=16,
                    ),
                ),
                (
                    "members",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.UUIDField(),
                        blank=True,
                        default=list,
                        help_text="Ids of the named people.",
                        size=None,
                    ),
                ),
                (
                    "valid_hours",
                    models.PositiveSmallIntegerField(
                        default=72,
                        help_text="How long a request may be decided upon.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(720),
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("changed_at", models.DateTimeField(auto_now=True)),
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
                "ordering": ["created_at"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="ApprovalSignature",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("round", models.PositiveSmallIntegerField()),
                ("part", models.CharField(max_length=120)),
                ("signed_as", models.CharField(max_length=120)),
                ("via", models.CharField(max_length=8)),
                ("comment", models.CharField(blank=True, max_length=500)),
                (
                    "by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "request",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="signatures",
                        to="clusters.approvalrequest",
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
                "ordering": ["created_at"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="PolicyException",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "restriction",
                    models.CharField(
                        choices=[
                            ("zone", "Zone or region"),
                            ("certification", "Certification not held"),
                            ("model", "Model"),
                            ("licence", "Licence"),
                            ("slo-class", "Service class"),
                            ("spend-hour", "Spend per hour of an endpoint"),
                            ("spend-month", "Spend per month"),
                        ],
                        max_length=16,
                    ),
                ),
                ("value", models.CharField(max_length=80)),
                ("reason", models.CharField(max_length=300)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("approved_as", models.CharField(max_length=120)),
                (
                    "ended_as",
                    models.CharField(blank=True, help_text="Who ended it before its time.", max_length=120),
                ),
                (
                    "warned_at",
                    models.DateTimeField(help_text="When people were told that it ends soon.", null=True),
                ),
                (
                    "enforced_at",
                    models.DateTimeField(help_text="When what ran under it was judged again.", null=True),
                ),
                (
                    "approved_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="policy_exceptions",
                        to="clusters.endpoint",
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.project",
                    ),
                ),
                (
                    "request",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="exception",
                        to="clusters.approvalrequest",
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
            },
        ),
        migrations.CreateModel(
            name="TenantPolicy",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("version", models.PositiveIntegerField()),
                ("effective_from", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "set_as",
                    models.CharField(help_text="How the history names whoever set it.", max_length=120),
                ),
                ("by_platform", models.BooleanField(default=False)),
                ("note", models.CharField(blank=True, max_length=300)),
                (
                    "allowed_zones",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), blank=True, default=list, size=None
                    ),
                ),
                ("home_zone", models.CharField(blank=True, max_length=60)),
                (
                    "certifications",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                (
                    "allowed_models",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=80), blank=True, default=list, size=None
                    ),
                ),
                (
                    "allowed_licences",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=80), blank=True, default=list, size=None
                    ),
                ),
                (
                    "allowed_classes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                (
                    "most_per_hour",
                    models.DecimalField(
                        blank=True,
                        decimal_places=4,
                        help_text="Most that one endpoint may cost an hour, in the tenant's currency.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                (
                    "most_per_month",
                    models.DecimalField(
                        blank=True,
                        decimal_places=2,
                        help_text="Most that all endpoints may cost in a month of 730 hours, in the tenant's currency.",
                        max_digits=14,
                        null=True,
                        validators=[django.core.validators.MinValueValidator(0)],
                    ),
                ),
                (
                    "four_eyes",
                    models.BooleanField(
                        default=True, help_text="Who asks may not decide, nor loosen policy and rules alone."
                    ),
                ),
                (
                    "self_approval",
                    models.BooleanField(
                        default=False, help_text="Who asks may decide where nobody else of the tenant could."
                    ),
                ),
                (
                    "link_decisions",
                    models.BooleanField(default=True, help_text="The link in a mail may be decided by."),
                ),
                (
                    "floor_zones",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=60), blank=True, default=list, size=None
                    ),
                ),
                (
                    "floor_certifications",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                (
                    "set_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
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
                "ordering": ["-version"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddIndex(
            model_name="approvalrequest",
            index=models.Index(
                condition=models.Q(("state", "pending")), fields=["expires_at"], name="approvals_pending"
            ),
        ),
        migrations.AddIndex(
            model_name="approvalrequest",
            index=models.Index(fields=["tenant", "state", "-id"], name="approvals_inbox"),
        ),
        migrations.AddConstraint(
            model_name="approvalrequest",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "pending"), models.Q(("what", "exception"), _negated=True)),
                fields=("tenant", "endpoint"),
                name="one_pending_wish_per_endpoint",
            ),
        ),
        migrations.AddConstraint(
            model_name="approvalrequest",
            constraint=models.CheckConstraint(
                condition=models.Q(("state", "pending"), ("decided_at__isnull", False), _connector="OR"),
                name="decided_requests_say_when",
            ),
        ),
        migrations.AddConstraint(
            model_name="approvalrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "price-above"), _negated=True),
                    ("amount__isnull", False),
                    _connector="OR",
                ),
                name="price_rule_has_an_amount",
            ),
        ),
        migrations.AddConstraint(
            model_name="approvalrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "quota-above"), _negated=True),
                    models.Q(("gpus__isnull", False), ("share", None)),
                    models.Q(("gpus", None), ("share__isnull", False)),
                    _connector="OR",
                ),
                name="quota_rule_has_gpus_or_share",
            ),
        ),
        migrations.AddConstraint(
            model_name="approvalrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "reserved-gpus"), _negated=True),
                    models.Q(("gpu_types", []), _negated=True),
                    models.Q(("pools", []), _negated=True),
                    _connector="OR",
                ),
                name="reserved_rule_names_gpus",
            ),
        ),
        migrations.AddConstraint(
            model_name="approvalrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("decides", "members"), _negated=True),
                    models.Q(("members", []), _negated=True),
                    _connector="OR",
                ),
                name="members_rule_names_them",
            ),
        ),
        migrations.AddConstraint(
            model_name="approvalsignature",
            constraint=models.UniqueConstraint(
                fields=("tenant", "request", "round", "part"), name="each_part_signs_once"
            ),
        ),
        migrations.AddIndex(
            model_name="policyexception",
            index=models.Index(
                condition=models.Q(("enforced_at", None)), fields=["ends_at"], name="exceptions_to_end"
            ),
        ),
        migrations.AddConstraint(
            model_name="policyexception",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("ends_at__gte", models.F("starts_at")),
                    (
                        "ends_at__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("starts_at"), "+", models.Value(datetime.timedelta(days=366))
                        ),
                    ),
                ),
                name="exception_ends_within_366_days",
            ),
        ),
        migrations.AddConstraint(
            model_name="policyexception",
            constraint=models.CheckConstraint(
                condition=models.Q(("endpoint", None), ("project", None), _connector="OR"),
                name="exception_for_endpoint_or_project",
            ),
        ),
        migrations.AddConstraint(
            model_name="tenantpolicy",
            constraint=models.UniqueConstraint(fields=("tenant", "version"), name="policy_version_once"),
        ),
        migrations.AddConstraint(
            model_name="tenantpolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("version__gt", 0)), name="policy_version_counts_from_one"
            ),
        ),
        # What runs already was not held up by rules that were not there.
        migrations.AlterField(
            model_name="endpoint",
            name="cleared",
            field=models.BooleanField(
                default=False,
                help_text="The rules of approval were asked about where it is placed first, or after a pause.",
            ),
        ),
        *(
            isolate(f"clusters_{table}")
            for table in (
                "tenantpolicy",
                "policyexception",
                "approvalrule",
                "approvalrequest",
                "approvalsignature",
            )
        ),
        never_changes(
            "clusters_tenantpolicy",
            "version, effective_from, set_as, by_platform, note, allowed_zones, home_zone, certifications,"
            " allowed_models, allowed_licences, allowed_classes, most_per_hour, most_per_month, four_eyes,"
            " self_approval, link_decisions, floor_zones, floor_certifications",
        ),
    ]
