"""What is known of an endpoint, and when it became so."""

from __future__ import annotations

from django.db import models

from clusters.models.endpoints import Endpoint
from tenants.models import TenantOwned


class Condition(TenantOwned):
    """One aspect of an endpoint, in the manner of Kubernetes' conditions."""

    class Type(models.TextChoices):
        PLACED = "Placed"
        PROVISIONED = "Provisioned"
        ENGINE_READY = "EngineReady"
        ROUTED = "Routed"
        REACHABLE = "Reachable"
        IN_SYNC = "InSync"
        LOAD_DRIFT = "LoadDrift"
        APPROVED = "Approved"
        POLICY = "WithinPolicy"
        SCALING = "Scaling"

    class Status(models.TextChoices):
        TRUE = "true"
        FALSE = "false"
        UNKNOWN = "unknown"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="conditions")
    type = models.CharField(max_length=32, choices=Type)
    status = models.CharField(max_length=8, choices=Status)
    reason = models.CharField(max_length=64)
    message = models.CharField(max_length=1000, blank=True)
    observed_generation = models.PositiveIntegerField()
    changed_at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint", "type"], name="one_condition_per_type"),
        ]

    @property
    def good(self) -> bool | None:
        """Whether that is as it should be, None where it is unknown. A load that drifts is told by "true"."""
        if self.status == self.Status.UNKNOWN:
            return None
        return (self.status == self.Status.TRUE) != (self.type == self.Type.LOAD_DRIFT)


class EndpointEvent(TenantOwned):
    """A line of an endpoint's history: what people did and what the reconciler saw change."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=40)
    message = models.CharField(max_length=1000)
    actor = models.CharField(max_length=120, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["-id"]
        indexes = [models.Index(fields=["tenant", "endpoint", "-id"], name="endpoint_history")]
