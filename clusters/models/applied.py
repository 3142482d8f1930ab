"""What was applied from configuration files: which objects, under whose label, and what the file said."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from tenants.models import Identified, TenantOwned


class Applied(models.Model):
    """That an object was applied from a document.

    ``owner`` is the label by which whoever keeps the files finds what they no longer hold; ``digest`` is of what the
    document said, ``object_id`` names the row, for kinds whose rows have no name of their own.
    """

    kind = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    owner = models.CharField(max_length=63, blank=True)
    digest = models.CharField(max_length=64)
    object_id = models.UUIDField(null=True)
    applied_at = models.DateTimeField(default=timezone.now)
    applied_as = models.CharField(max_length=120, help_text="How the history names whoever applied it.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class AppliedObject(Applied, TenantOwned):
    """An object of a tenant that was applied from a document."""

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "kind", "name"], name="applied_once_in_tenant"),
        ]


class AppliedPlatformObject(Applied, Identified):
    """An object of the platform that was applied from a document."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "name"], name="applied_once_on_platform"),
        ]
