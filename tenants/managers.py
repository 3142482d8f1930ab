"""Managers that narrow every query to the open tenant scope."""

from __future__ import annotations

from typing import Any

from django.db import models

from tenants import scope


class TenantQuerySet(models.QuerySet):
    """A queryset of tenant-owned rows; made by :class:`TenantManager`, already narrowed."""


class TenantManager(models.Manager.from_queryset(TenantQuerySet)):  # type: ignore[misc]
    """Narrow to the open scope.

    Raises:
        ScopeError: there is no open scope.
    """

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        open_scope = scope.current()
        return rows if open_scope.is_platform else rows.filter(tenant_id=open_scope.tenant_id)

    def none(self) -> Any:
        """Give an empty set, which needs no scope: forms and the API's description read its fields."""
        return super().get_queryset().none()

    @classmethod
    def of(cls, queryset: type[models.QuerySet]) -> TenantManager:
        """Make a scoped manager with the methods of ``queryset``."""
        return cls.from_queryset(queryset)()
