"""Names of endpoints as of then: billing keeps what a statement must show after an endpoint is gone."""

from __future__ import annotations

from django.db import models

from tenants.models import Project, TenantOwned


class EndpointLabel(TenantOwned):
    """Name and belonging of an endpoint, written by clusters when it is ordered."""

    endpoint_id = models.UUIDField()
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=63)
    model = models.CharField(max_length=80)
    slo_class = models.CharField(max_length=40)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint_id"], name="one_label_per_endpoint")
        ]
