"""Budgets. ``metadata.project`` says whose it is; without it, and without a key, it is the tenant's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from billing.api.budget_serializers import BudgetCreate
from billing.budgets.services import budget_change, budget_create, budget_delete
from billing.models import Budget
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds.base import (
    CHANGED,
    CREATED,
    REMOVED,
    Done,
    Kind,
    Wanted,
    changed_values,
    fields_spec,
    refuse_fixed,
)
from portal.configuration.kinds.projects import project_named
from tenants.errors import Invalid
from tenants.models import Project
from tenants.roles import Action

_FIELDS: Final = (
    "unit", "basis", "limit", "policy", "period", "alert_percents", "mail_alerts", "recipients", "active",
)  # fmt: skip
_FIXED: Final = ("unit", "basis", "period", "key")


class BudgetSpec(BudgetCreate):
    name = None
    project = None

    def validate_key(self, key_id: Any) -> Any:
        return super().validate_key(key_id).id if key_id else key_id

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("alert_percents", "recipients"):
            if name in values:
                values[name] = sorted(set(values[name]))
        return values


class BudgetKind(Kind):
    name = "Budget"
    in_project = True
    action = Action.MANAGE_BUDGETS
    spec_class = BudgetSpec

    def rows(self) -> Iterable[Budget]:
        return Budget.objects.order_by("name", "id")

    def find(self, name: str) -> Budget | None:
        return Budget.objects.filter(name__iexact=name).first()

    def project_of(self, row: Budget) -> str:
        if row.owner_kind != Budget.OwnerKind.PROJECT:
            return ""
        return Project.objects.filter(id=row.owner_id).values_list("slug", flat=True).first() or ""

    def spec(self, row: Budget) -> dict[str, Any]:
        key = {"key": str(row.owner_id)} if row.owner_kind == Budget.OwnerKind.KEY else {}
        return {**fields_spec(row, _FIELDS), **key}

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        values = dict(wanted.values)
        key = values.pop("key", None)
        if key and document.project:
            text = "Name a project or a key, not both."
            raise Invalid(text, errors={"key": [text]})
        owner: dict[str, Any] = {}
        if key:
            owner = {"owner_kind": Budget.OwnerKind.KEY, "owner_id": key}
        elif document.project:
            owner = {"owner_kind": Budget.OwnerKind.PROJECT, "owner_id": project_named(document.project).id}
        return Done(result=CREATED, row=budget_create(name=document.name, **values, **owner))

    def change(
        self, row: Budget, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        refuse_fixed(
            changed,
            _FIXED,
            why="Owner, unit, basis and period of a budget stay. Make another budget for those.",
        )
        budget_change(budget=row, **changed_values(wanted, changed))
        return Done(result=CHANGED, row=row)

    def remove(self, row: Budget, by: Applier) -> Done:
        budget_delete(budget=row)
        return Done(result=REMOVED, row=row, note="With its history.")
