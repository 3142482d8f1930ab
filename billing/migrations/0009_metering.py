"""Usage of engines elsewhere, usage by minute, and what shows that usage arrived whole."""

import django.db.models.functions.datetime
from django.db import migrations, models

import billing.models.metering

# The second index holds no segment of a gateway's own, so that those pay nothing for it.
SEGMENTS = """
ALTER TABLE billing_usagesegment
    ADD COLUMN event varchar(200) NOT NULL DEFAULT '', ADD COLUMN source varchar(300) NOT NULL DEFAULT '',
    DROP CONSTRAINT billing_usagesegment_pkey,
    ADD PRIMARY KEY (tenant_id, day, gateway, sequence, key_id, event);
CREATE UNIQUE INDEX usagesegment_event ON billing_usagesegment (tenant_id, day, gateway, event) WHERE event <> '';
"""
NO_SEGMENTS = """
DROP INDEX usagesegment_event;
ALTER TABLE billing_usagesegment
    DROP CONSTRAINT billing_usagesegment_pkey, DROP COLUMN event, DROP COLUMN source,
    ADD PRIMARY KEY (tenant_id, day, gateway, sequence, key_id);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0008_money_isolation"),
        ("tenants", "0004_gateway_policies"),
    ]

    operations = [
        migrations.RunSQL(
            SEGMENTS,
            NO_SEGMENTS,
            state_operations=[
                migrations.AddField("usagesegment", "event", models.CharField(default="", max_length=200)),
                migrations.AddField("usagesegment", "source", models.CharField(default="", max_length=300)),
            ],
        ),
        migrations.CreateModel(
            name="UsageMinute",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("bucket", models.DateTimeField()),
                ("project_id", models.UUIDField()),
                ("key_id", models.UUIDField()),
                ("endpoint_id", models.UUIDField(null=True)),
                ("revision_id", models.UUIDField(null=True)),
                ("route_id", models.UUIDField(null=True)),
                ("model", models.CharField(max_length=80)),
                ("slo_class", models.CharField(max_length=40)),
                ("region", models.CharField(max_length=40)),
                ("outcome", models.CharField(max_length=16)),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                ("input_tokens_squared", models.PositiveBigIntegerField(default=0)),
                ("output_tokens_squared", models.PositiveBigIntegerField(default=0)),
            ],
            options={
                "managed": False,
                "base_manager_name": "objects",
            },
        ),
        migrations.CreateModel(
            name="EngineTokens",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("replica_id", models.CharField(max_length=80)),
                ("endpoint_id", models.UUIDField()),
                ("day", models.DateField()),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("last_input", models.PositiveBigIntegerField()),
                ("last_output", models.PositiveBigIntegerField()),
                ("read_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="GatewayDay",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("gateway", models.CharField(max_length=64)),
                ("day", models.DateField()),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                ("segments", models.PositiveBigIntegerField(default=0)),
                ("late_segments", models.PositiveBigIntegerField(default=0)),
                ("counted_at", models.DateTimeField()),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="GatewayLogDay",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("gateway", models.CharField(max_length=64)),
                ("day", models.DateField()),
                ("requests", models.PositiveBigIntegerField(default=0)),
                ("input_tokens", models.PositiveBigIntegerField(default=0)),
                ("output_tokens", models.PositiveBigIntegerField(default=0)),
                ("cached_tokens", models.PositiveBigIntegerField(default=0)),
                ("told_at", models.DateTimeField()),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="GatewaySequence",
            fields=[
                ("gateway", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("seen", billing.models.metering.Multirange()),
                ("counted_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="SequenceGap",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("gateway", models.CharField(max_length=64)),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("noticed_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["gateway", "first"],
            },
        ),
        migrations.CreateModel(
            name="UsageDropped",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("dropped_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="UsageRefusal",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("gateway", models.CharField(max_length=64)),
                ("sequence", models.BigIntegerField()),
                ("day", models.DateField()),
                ("reason", models.CharField(max_length=300)),
                ("content", models.TextField()),
                ("first_seen_at", models.DateTimeField()),
                ("last_seen_at", models.DateTimeField()),
                ("count", models.PositiveIntegerField(default=1)),
            ],
            options={
                "ordering": ["-last_seen_at", "-id"],
            },
        ),
        migrations.AddField(
            model_name="endpointlabel",
            name="external",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="usageday",
            name="counted_at",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AddIndex(
            model_name="usageday",
            index=models.Index(fields=["tenant", "counted_at", "bucket"], name="usage_day_counted"),
        ),
        migrations.AddIndex(
            model_name="enginetokens",
            index=models.Index(fields=["replica_id", "-day"], name="engine_tokens_last"),
        ),
        migrations.AddConstraint(
            model_name="enginetokens",
            constraint=models.UniqueConstraint(fields=("day", "replica_id"), name="engine_tokens_once"),
        ),
        migrations.AddConstraint(
            model_name="gatewayday",
            constraint=models.UniqueConstraint(fields=("day", "gateway"), name="gateway_day_once"),
        ),
        migrations.AddConstraint(
            model_name="gatewaylogday",
            constraint=models.UniqueConstraint(fields=("day", "gateway"), name="gateway_log_day_once"),
        ),
        migrations.AddConstraint(
            model_name="sequencegap",
            constraint=models.UniqueConstraint(fields=("gateway", "first"), name="sequence_gap_once"),
        ),
        migrations.AddIndex(
            model_name="usagerefusal",
            index=models.Index(fields=["last_seen_at"], name="usage_refusal_seen"),
        ),
        migrations.AddConstraint(
            model_name="usagerefusal",
            constraint=models.UniqueConstraint(
                fields=("gateway", "sequence", "reason"), name="usage_refusal_once"
            ),
        ),
    ]
