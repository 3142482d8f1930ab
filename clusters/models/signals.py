"""How endpoints stand at gateways, as these told it last."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from clusters.models.endpoints import Endpoint
from tenants.models import TenantOwned


class EndpointSignal(TenantOwned):
    """One endpoint at one process of a gateway, written over by the next; see the message of the contract.

    What is now, and what the minute before ``heard_at`` was: one that was heard a minute ago says nothing any more.
    No index covers what changes, so that an update stays in its page.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="signals")
    gateway = models.CharField(
        max_length=40
    )  # its name: a row outlives its gateway for an hour, and says nothing
    instance = models.CharField(max_length=48)
    region = models.CharField(max_length=40)
    heard_at = models.DateTimeField()

    in_flight = models.PositiveIntegerField(default=0)
    queued = models.JSONField(default=dict)
    oldest_wait_s = models.FloatField(default=0)
    requests = models.PositiveIntegerField(default=0)
    shed = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    ttft_ms = ArrayField(models.PositiveIntegerField(), default=list)
    itl_ms = ArrayField(models.PositiveIntegerField(), default=list)
    queue_s = models.FloatField(default=0)
    prefill_s = models.FloatField(default=0)
    decode_s = models.FloatField(default=0)
    prefills = models.PositiveIntegerField(default=0)
    kv_pressure = models.PositiveIntegerField(default=0)
    tried_again = models.JSONField(default=dict)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "endpoint", "gateway", "instance"], name="one_signal_per_process"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint_id} at {self.gateway}/{self.instance}"
