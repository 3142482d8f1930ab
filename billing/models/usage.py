"""Usage as it arrived (segments, partitioned by UTC day) and as it is read (minutes, hours, days)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now

from tenants.managers import TenantManager
from tenants.models import Tenant


class UsageSegment(models.Model):
    """What a gateway shipped, never changed; the columns are those of the wire contract.

    The table is partitioned by ``day``; its primary key is the segment's identity, so that sending one
    again inserts nothing. ``xact`` is the inserting transaction, by which the rollups read in commit order.
    ``endpoint_id`` is null for requests that were refused because they named no endpoint of the key's,
    ``route_id`` for those that came by the endpoint's own name.

    A CloudEvent of an engine outside Berth is a segment too: ``event`` is its id and ``source`` its source, both
    empty for a gateway's own; ``gateway`` then stands for the source (see :mod:`billing.metering.events`).
    """

    pk = models.CompositePrimaryKey("tenant", "day", "gateway", "sequence", "key_id", "event")
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_constraint=False)
    day = models.DateField()
    gateway = models.CharField(max_length=64)
    sequence = models.BigIntegerField()
    key_id = models.UUIDField()
    event = models.CharField(max_length=200, default="")
    source = models.CharField(max_length=300, default="")
    project_id = models.UUIDField()
    endpoint_id = models.UUIDField(null=True)
    revision_id = models.UUIDField(null=True)
    route_id = models.UUIDField(null=True)
    model = models.CharField(max_length=80)
    slo_class = models.CharField(max_length=40)
    region = models.CharField(max_length=40)
    outcome = models.CharField(max_length=16)
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    requests = models.PositiveIntegerField()
    input_tokens = models.PositiveBigIntegerField()
    output_tokens = models.PositiveBigIntegerField()
    cached_tokens = models.PositiveBigIntegerField()
    input_tokens_squared = models.PositiveBigIntegerField()
    output_tokens_squared = models.PositiveBigIntegerField()
    ttft_ms = ArrayField(models.PositiveIntegerField(), default=list)
    itl_ms = ArrayField(models.PositiveIntegerField(), default=list)
    received_at = models.DateTimeField()
    xact = models.BigIntegerField()

    objects = TenantManager()

    class Meta:
        base_manager_name = "objects"
        managed = False  # partitioned: the table is made and changed by SQL in migrations


class UsageRollup(models.Model):
    """Sums of segments over a bucket of time; ``bucket`` is its start in UTC."""

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    bucket = models.DateTimeField()
    project_id = models.UUIDField()
    key_id = models.UUIDField()
    endpoint_id = models.UUIDField(null=True)
    revision_id = models.UUIDField(null=True)
    route_id = models.UUIDField(null=True)
    model = models.CharField(max_length=80)
    slo_class = models.CharField(max_length=40)
    region = models.CharField(max_length=40)
    outcome = models.CharField(max_length=16)
    requests = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    input_tokens_squared = models.PositiveBigIntegerField(default=0)
    output_tokens_squared = models.PositiveBigIntegerField(default=0)
    ttft_ms = ArrayField(models.BigIntegerField(), default=list)
    itl_ms = ArrayField(models.BigIntegerField(), default=list)

    objects = TenantManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"


def _one_row(name: str) -> list[models.UniqueConstraint]:
    return [
        models.UniqueConstraint(
            fields=[
                "tenant", "bucket", "project_id", "endpoint_id", "key_id", "revision_id",
                "route_id", "model", "slo_class", "region", "outcome",
            ],
            name=name,
            nulls_distinct=False,
        )
    ]  # fmt: skip


class UsageHour(UsageRollup):
    """Usage by hour."""

    class Meta(UsageRollup.Meta):
        constraints = _one_row("usage_hour_once")
        # GPU time: which endpoints were asked in an hour, by any tenant. Rows are written about in order of time.
        indexes = [
            BrinIndex(
                fields=["bucket"],
                opclasses=["timestamptz_minmax_multi_ops"],
                pages_per_range=32,
                autosummarize=True,
                name="usage_hour_bucket",
            )
        ]


class UsageDay(UsageRollup):
    """Usage by UTC day.

    ``counted_at`` is when the row last changed, by the database's clock within the transaction that changed it. That
    transaction commits a little later, so that who asks for what changed since a moment goes back an hour further.
    """

    counted_at = models.DateTimeField(db_default=Now())
    asked_hours = models.IntegerField(
        default=0, help_text="A bit for each UTC hour with requests, the lowest for the first."
    )

    class Meta(UsageRollup.Meta):
        constraints = _one_row("usage_day_once")
        indexes = [
            # Statements: who used a shared endpoint, and in which hours anybody did.
            models.Index(fields=["endpoint_id", "bucket"], name="usage_day_endpoint"),
            # The operators' reports: all tenants' rows of one day, written about in order of time.
            BrinIndex(fields=["bucket"], name="usage_day_bucket", pages_per_range=32, autosummarize=True),
        ]


class UsageMinute(models.Model):
    """Usage by minute, for the last ``USAGE_MINUTE_DAYS`` days; ``bucket`` is the minute's start in UTC.

    Partitioned by UTC day. Its dimensions and counts are those of :class:`UsageHour`; histograms are by the hour.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_constraint=False)
    bucket = models.DateTimeField()
    project_id = models.UUIDField()
    key_id = models.UUIDField()
    endpoint_id = models.UUIDField(null=True)
    revision_id = models.UUIDField(null=True)
    route_id = models.UUIDField(null=True)
    model = models.CharField(max_length=80)
    slo_class = models.CharField(max_length=40)
    region = models.CharField(max_length=40)
    outcome = models.CharField(max_length=16)
    requests = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    input_tokens_squared = models.PositiveBigIntegerField(default=0)
    output_tokens_squared = models.PositiveBigIntegerField(default=0)

    objects = TenantManager()

    class Meta:
        base_manager_name = "objects"
        managed = False  # partitioned: the table is made and changed by SQL in migrations


class UsageMinutes(models.Model):
    """An endpoint's requests by the minute of one hour in which they ended; ``bucket`` is the hour's start in UTC.

    ``requests`` has a place for each of the sixty minutes. One row for an hour, not for a minute, so that it
    is as few rows as the hours are and may be kept as long.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False)
    endpoint_id = models.UUIDField()
    bucket = models.DateTimeField()
    outcome = models.CharField(max_length=16)
    requests = ArrayField(models.BigIntegerField())

    objects = TenantManager()

    class Meta:
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint_id", "bucket", "outcome"], name="usage_minutes_once"
            )
        ]


class RollupMark(models.Model):
    """How far a rollup has read: every segment of a transaction before ``xact`` is counted."""

    name = models.CharField(max_length=32, primary_key=True)
    xact = models.BigIntegerField(default=0)
