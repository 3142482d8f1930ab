"""The bases of all models."""

from __future__ import annotations

import uuid

import uuid_utils.compat
from django.db import models

from tenants import scope
from tenants.managers import TenantManager


def new_id() -> uuid.UUID:
    """Give a UUIDv7: sorts by time of making, tells nothing of other tenants' rows."""
    return uuid_utils.compat.uuid7()


class Identified(models.Model):
    """A row with a UUIDv7 and the time it was made."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, editable=False)

    class Meta:
        abstract = True


class TenantOwned(Identified):
    """A row that belongs to one tenant: scoped manager, forced row-level security in its migration.

    ``tenant`` is filled from the open scope when it is not given.
    """

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", editable=False)

    objects = TenantManager()

    class Meta:
        abstract = True
        base_manager_name = "objects"

    def save(self, *args, **kwargs):
        if self.tenant_id is None:
            self.tenant_id = scope.current_tenant_id()
        super().save(*args, **kwargs)
