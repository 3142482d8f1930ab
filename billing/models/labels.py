"""Names of endpoints as of then: billing keeps what a statement must show after an endpoint is gone."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from tenants.models import Identified, Project, Tenant, TenantOwned


class EndpointLabel(TenantOwned):
    """Name and belonging of an endpoint, written by clusters when it is ordered.

    ``external`` is one outside Berth whose usage came as CloudEvents: it holds no GPU here, so that its use is charged.
    """

    endpoint_id = models.UUIDField()
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=63)
    model = models.CharField(max_length=80)
    slo_class = models.CharField(max_length=40)
    external = models.BooleanField(default=False)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint_id"], name="one_label_per_endpoint")
        ]


class SharedPeriod(Identified):
    """An endpoint was sold by the token to every tenant from ``started_at`` until ``ended_at`` (None: still).

    Written by clusters when it is shared and unshared. Its name and model are what every tenant's statement shows.
    """

    owner = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+")
    endpoint_id = models.UUIDField()
    name = models.CharField(max_length=63)
    model = models.CharField(max_length=80)
    slo_class = models.CharField(max_length=40)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["started_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint_id"], condition=Q(ended_at=None), name="one_open_shared_period"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=F("started_at")), name="shared_ends_after_start"
            ),
        ]
