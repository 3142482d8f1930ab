"""Managers that narrow every query to the open tenant scope, and run it in no other."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models
from django.db.models import sql

from tenants import scope

_Query = TypeVar("_Query", bound=sql.Query)


class TenantQuery(sql.Query):
    """A query on tenant-owned rows. It may be kept and run later, but never outside the scope it was made for.

    The filter was fixed when it was made. Run under no scope it would read nothing, run under another tenant's
    scope nothing either: both are faults of the code that should be heard of, in streams and in on_commit, too.
    """

    made_in: scope.Scope | None = None

    def get_compiler(self, *args: Any, **kwargs: Any) -> Any:
        if not self.is_empty():
            self.refuse_elsewhere()
        return super().get_compiler(*args, **kwargs)

    def chain(self, klass: type[_Query] | None = None) -> Any:
        if klass is not None and issubclass(klass, sql.UpdateQuery):
            self.refuse_elsewhere()
        return super().chain(klass)

    def refuse_elsewhere(self) -> None:
        """Insist that the scope is open for which the query was made, or the platform's.

        Raises:
            ScopeError: no scope is open, or another tenant's.
        """
        opened = scope.current()
        made_for = self.made_in.tenant_id if self.made_in else None
        if made_for and opened.tenant_id and made_for != opened.tenant_id:
            raise scope.ScopeError(
                "A query that was made in one tenant's scope is run in another's; make it anew there."
            )


class TenantQuerySet(models.QuerySet):
    """A queryset of tenant-owned rows; made by :class:`TenantManager`, already narrowed."""

    def __init__(
        self, model: Any = None, query: sql.Query | None = None, using: str | None = None, hints: Any = None
    ) -> None:
        super().__init__(model, query or TenantQuery(model), using, hints)

    def _raw_delete(self, using: str | None) -> int:
        if isinstance(self.query, TenantQuery):
            self.query.refuse_elsewhere()
        return super()._raw_delete(using)


class TenantManager(models.Manager.from_queryset(TenantQuerySet)):  # type: ignore[misc]
    """Narrow to the open scope.

    Raises:
        ScopeError: there is no open scope.
    """

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        open_scope = scope.current()
        rows.query.made_in = open_scope
        return rows if open_scope.is_platform else rows.filter(tenant_id=open_scope.tenant_id)

    def none(self) -> Any:
        """Give an empty set, which needs no scope: forms and the API's description read its fields."""
        return super().get_queryset().none()

    @classmethod
    def of(cls, queryset: type[TenantQuerySet]) -> TenantManager:
        """Make a scoped manager with the methods of ``queryset``."""
        return cls.from_queryset(queryset)()
