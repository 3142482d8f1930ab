"""What shows that usage arrived whole: sequences, gaps, refusals, and the sums that each end of the pipe counted.

None of it is a tenant's: it is of gateways, which serve all tenants, and shown to operators only.
"""

from __future__ import annotations

from django.db import models


class Multirange(models.Field):
    """Ranges of whole numbers, PostgreSQL's ``int8multirange``; read and written by SQL."""

    def db_type(self, connection) -> str:
        return "int8multirange"


class UsageDropped(models.Model):
    """A UTC day whose segments were dropped by retention, all of them counted before.

    What arrives for it is refused for good: its identities are forgotten, so that a repeat could not be told.
    """

    day = models.DateField(primary_key=True)
    dropped_at = models.DateTimeField()


class UsageRefusal(models.Model):
    """A segment that was refused, kept as it came in ``content`` (JSON), and how often it came.

    ``sequence`` is cut to what the column holds.
    """

    id = models.BigAutoField(primary_key=True)
    gateway = models.CharField(max_length=64)
    sequence = models.BigIntegerField()
    day = models.DateField()
    reason = models.CharField(max_length=300)
    content = models.TextField()
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["-last_seen_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["gateway", "sequence", "reason"], name="usage_refusal_once")
        ]
        indexes = [models.Index(fields=["last_seen_at"], name="usage_refusal_seen")]


class GatewaySequence(models.Model):
    """Which sequences of one gateway's instance were counted; advanced with the rollups, in their transaction."""

    gateway = models.CharField(max_length=64, primary_key=True)
    seen = Multirange()
    counted_at = models.DateTimeField()


class SequenceGap(models.Model):
    """Sequences from ``first`` to ``last`` of a gateway's instance are missing, though later ones came.

    A gap that fills again goes. Gateways ship in order, so that one that stays for minutes is lost usage.
    """

    id = models.BigAutoField(primary_key=True)
    gateway = models.CharField(max_length=64)
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    noticed_at = models.DateTimeField()

    class Meta:
        ordering = ["gateway", "first"]
        constraints = [models.UniqueConstraint(fields=["gateway", "first"], name="sequence_gap_once")]


class _Sums(models.Model):
    """Sums over the requests that ended in one UTC day at one gateway's instance."""

    id = models.BigAutoField(primary_key=True)
    gateway = models.CharField(max_length=64)
    day = models.DateField()
    requests = models.PositiveBigIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)

    class Meta:
        abstract = True


class GatewayDay(_Sums):
    """What was counted of a gateway's segments; ``late_segments`` of them came ``USAGE_LATE_DAYS`` after their day."""

    segments = models.PositiveBigIntegerField(default=0)
    late_segments = models.PositiveBigIntegerField(default=0)
    counted_at = models.DateTimeField()

    class Meta(_Sums.Meta):
        constraints = [models.UniqueConstraint(fields=["day", "gateway"], name="gateway_day_once")]


class GatewayLogDay(_Sums):
    """What a gateway's own log holds of the day, as it told with the segments that reach so far."""

    told_at = models.DateTimeField()

    class Meta(_Sums.Meta):
        constraints = [models.UniqueConstraint(fields=["day", "gateway"], name="gateway_log_day_once")]


class EngineTokens(models.Model):
    """What an engine's own counters grew by in one UTC day, for runtimes whose counters are true.

    ``last_input`` and ``last_output`` are the counters as last read: they begin at zero when the engine starts anew.
    """

    id = models.BigAutoField(primary_key=True)
    replica_id = models.CharField(max_length=80)
    endpoint_id = models.UUIDField()
    day = models.DateField()
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    last_input = models.PositiveBigIntegerField()
    last_output = models.PositiveBigIntegerField()
    read_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "replica_id"], name="engine_tokens_once")]
        indexes = [models.Index(fields=["replica_id", "-day"], name="engine_tokens_last")]
