"""What an endpoint's own requests say of its order."""

from __future__ import annotations

from django.db import models

from clusters.models.endpoints import Endpoint
from tenants.models import TenantOwned


class LoadObservation(TenantOwned):
    """The load of one endpoint as it was measured, and what follows from it; one row, written when it is news.

    The profile's numbers are those of an order, learnt from ``requests`` in ``hours`` hours with requests between
    ``since`` and ``until``. ``drift`` lists what lies outside the order (name, ordered, measured, in words),
    ``drifting_since`` is the hour from which on it has. ``kept`` is a measured profile that somebody was content
    with: what is near it is no drift. ``correction`` says how far the performance model is off for this endpoint,
    and why; the two factors are its result. ``replan`` is the priced answer to the drift.
    """

    endpoint = models.OneToOneField(Endpoint, on_delete=models.CASCADE, related_name="load")
    since = models.DateTimeField()
    until = models.DateTimeField()
    hours = models.PositiveIntegerField()
    requests = models.PositiveBigIntegerField()

    requests_per_second = models.FloatField()
    burstiness = models.FloatField(default=1)
    input_tokens = models.PositiveIntegerField()
    output_tokens = models.PositiveIntegerField()
    input_cv = models.FloatField(default=1)
    output_cv = models.FloatField(default=1)
    prefix_share = models.FloatField(default=0)

    drift = models.JSONField(default=list)
    drifting_since = models.DateTimeField(null=True, blank=True)
    kept = models.JSONField(null=True, blank=True)

    itl_factor = models.FloatField(default=1)
    ttft_factor = models.FloatField(default=1)
    correction = models.JSONField(default=dict)

    replan = models.JSONField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        indexes = [
            # The list of what drifts, for those who re-plan many.
            models.Index(
                fields=["tenant", "drifting_since"],
                condition=models.Q(drifting_since__isnull=False),
                name="load_drifting",
            ),
        ]

    def __str__(self) -> str:
        return f"load of {self.endpoint_id}"
