"""Quotas: how much of a resource a tenant may hold at once."""

from __future__ import annotations

from django.db import models

from tenants.models.base import TenantOwned


class Quota(TenantOwned):
    """An upper limit. ``resource`` is ``gpus``, ``gpus:<GPU type>``, ``endpoints`` or ``service-accounts``."""

    resource = models.CharField(max_length=64)
    limit = models.PositiveIntegerField()

    class Meta(TenantOwned.Meta):
        ordering = ["resource"]
        constraints = [models.UniqueConstraint(fields=["tenant", "resource"], name="one_quota_per_resource")]

    def __str__(self) -> str:
        return f"{self.resource} <= {self.limit}"
