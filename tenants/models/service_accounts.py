"""Service accounts: automation that acts by itself and not for the person who set it up."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from tenants.models.base import TenantOwned
from tenants.models.people import Role, User


class ServiceAccount(TenantOwned):
    """What programs act as. Its management keys have its role, whatever that is at the time; while it is not active
    none of its keys is taken. One that was removed stays for the history of its keys.

    ``projects`` are ids of those that its keys may be for; empty: all.
    """

    name = models.CharField(max_length=80)
    description = models.CharField(max_length=300, blank=True)
    role = models.CharField(max_length=16, choices=Role)
    projects = ArrayField(models.UUIDField(), default=list, blank=True)
    active = models.BooleanField(default=True)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    removed_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(TenantOwned.Meta):
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                "tenant_id",
                Lower("name"),
                condition=Q(removed_at=None),
                name="service_account_name_in_tenant",
                violation_error_message="There is a service account of this name; choose another.",
            ),
            models.CheckConstraint(
                condition=Q(removed_at=None) | Q(active=False), name="removed_service_account_is_not_active"
            ),
        ]

    def __str__(self) -> str:
        return self.name
