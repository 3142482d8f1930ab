"""By which named route usage came: another dimension of segments and rollups, null for an endpoint's own name."""

from django.db import migrations, models

SEGMENTS = "ALTER TABLE billing_usagesegment ADD COLUMN route_id uuid;"
NO_SEGMENTS = "ALTER TABLE billing_usagesegment DROP COLUMN route_id;"


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_budgets"), ("tenants", "0004_gateway_policies")]

    operations = [
        migrations.RunSQL(
            SEGMENTS,
            NO_SEGMENTS,
            state_operations=[migrations.AddField("usagesegment", "route_id", models.UUIDField(null=True))],
        ),
        migrations.RemoveConstraint(
            model_name="usageday",
            name="usage_day_once",
        ),
        migrations.RemoveConstraint(
            model_name="usagehour",
            name="usage_hour_once",
        ),
        migrations.AddField(
            model_name="usageday",
            name="route_id",
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name="usagehour",
            name="route_id",
            field=models.UUIDField(null=True),
        ),
        migrations.AddConstraint(
            model_name="usageday",
            constraint=models.UniqueConstraint(
                fields=(
                    "tenant",
                    "bucket",
                    "project_id",
                    "endpoint_id",
                    "key_id",
                    "revision_id",
                    "route_id",
                    "model",
                    "slo_class",
                    "region",
                    "outcome",
                ),
                name="usage_day_once",
                nulls_distinct=False,
            ),
        ),
        migrations.AddConstraint(
            model_name="usagehour",
            constraint=models.UniqueConstraint(
                fields=(
                    "tenant",
                    "bucket",
                    "project_id",
                    "endpoint_id",
                    "key_id",
                    "revision_id",
                    "route_id",
                    "model",
                    "slo_class",
                    "region",
                    "outcome",
                ),
                name="usage_hour_once",
                nulls_distinct=False,
            ),
        ),
    ]
