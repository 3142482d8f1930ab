"""How gateways treat classes and endpoints, and names that stand for several endpoints."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models

import tenants.models.base
from tenants.isolation import isolate

#: The classes that every installation began with; operators may have taken another way since, or do it now.
CLASSES = """
UPDATE clusters_sloclass SET queue_s = 1, on_overload = 'fallback' WHERE name = 'interactive';
UPDATE clusters_sloclass SET queue_s = 5, floor = 0.1, on_overload = 'fallback' WHERE name = 'standard';
UPDATE clusters_sloclass SET queue_s = 60, floor = 0.05, backoff_s = 0.5, backoff_most_s = 10 WHERE name = 'batch';
"""


class Migration(migrations.Migration):
    dependencies = [
        ("clusters", "0008_tokenizers"),
        ("tenants", "0004_gateway_policies"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="NamedRoute",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "name",
                    models.CharField(
                        max_length=63,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
                                "Use 1 to 63 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
                            )
                        ],
                    ),
                ),
                ("rules", models.JSONField(default=list)),
            ],
            options={
                "ordering": ["name"],
                "abstract": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.AddField(
            model_name="endpoint",
            name="fallbacks",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.UUIDField(), blank=True, default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="requests_per_minute",
            field=models.PositiveIntegerField(
                blank=True, null=True, validators=[django.core.validators.MinValueValidator(1)]
            ),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="shared",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="endpoint",
            name="tokens_per_minute",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Input and output together.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="backoff_most_s",
            field=models.FloatField(default=1, validators=[django.core.validators.MinValueValidator(0.0)]),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="backoff_s",
            field=models.FloatField(default=0.05, validators=[django.core.validators.MinValueValidator(0.0)]),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="context_tokens",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Most tokens of a request with its answer. Empty: what the endpoint allows.",
                null=True,
                validators=[django.core.validators.MinValueValidator(2)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="degraded_context_tokens",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Most tokens of a request with its answer while its endpoint has no room.",
                null=True,
                validators=[django.core.validators.MinValueValidator(2)],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="floor",
            field=models.FloatField(
                default=0,
                validators=[
                    django.core.validators.MinValueValidator(0.0),
                    django.core.validators.MaxValueValidator(0.99),
                ],
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="on_overload",
            field=models.CharField(
                choices=[
                    ("refuse", "Refuse it"),
                    ("fallback", "Send it to the endpoint's fallbacks"),
                    ("shorten", "Admit it with a shorter context"),
                ],
                default="refuse",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="sloclass",
            name="queue_s",
            field=models.FloatField(default=5, validators=[django.core.validators.MinValueValidator(0.0)]),
        ),
        migrations.AddConstraint(
            model_name="endpoint",
            constraint=models.UniqueConstraint(
                django.db.models.functions.text.Lower("name"),
                condition=models.Q(("deleted_at", None), ("shared", True)),
                name="endpoint_name_among_shared",
                violation_error_message="A shared endpoint of this name exists already.",
            ),
        ),
        migrations.AddConstraint(
            model_name="sloclass",
            constraint=models.CheckConstraint(
                condition=models.Q(("floor__gte", 0), ("floor__lt", 1)), name="slo_floor_is_a_share"
            ),
        ),
        migrations.AddConstraint(
            model_name="sloclass",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("on_overload", "shorten"), _negated=True),
                    ("degraded_context_tokens__isnull", False),
                    _connector="OR",
                ),
                name="slo_shortens_to_something",
            ),
        ),
        migrations.AddConstraint(
            model_name="sloclass",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("context_tokens", None),
                    ("degraded_context_tokens", None),
                    ("degraded_context_tokens__lt", models.F("context_tokens")),
                    _connector="OR",
                ),
                name="slo_shortens_below_its_cap",
            ),
        ),
        migrations.AddField(
            model_name="namedroute",
            name="created_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="namedroute",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="routes", to="tenants.project"
            ),
        ),
        migrations.AddField(
            model_name="namedroute",
            name="tenant",
            field=models.ForeignKey(
                editable=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="namedroute",
            constraint=models.UniqueConstraint(
                models.F("tenant_id"),
                django.db.models.functions.text.Lower("name"),
                name="route_name_in_tenant",
                violation_error_message="A route of this name exists already; choose another name.",
            ),
        ),
        isolate("clusters_namedroute"),
        migrations.RunSQL(CLASSES, migrations.RunSQL.noop),
    ]
