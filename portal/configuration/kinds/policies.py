"""What a tenant lets itself use, and what needs approval."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rest_framework import serializers

from clusters.api.approval_serializers import RuleCreate, TenantPolicyBody
from clusters.endpoints.approvals import rules
from clusters.endpoints.policy import setting
from clusters.models import AppliedObject, ApprovalRequest, ApprovalRule, TenantPolicy
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds.base import (
    ASKED_FOR,
    CHANGED,
    CREATED,
    LEFT,
    REMOVED,
    WAITING,
    Done,
    Kind,
    Wanted,
    changed_values,
    fields_spec,
    refuse_fixed,
)
from portal.configuration.writing import plain
from tenants.errors import Conflict, Invalid
from tenants.models import Membership
from tenants.roles import Action

POLICY: Final = "policy"
_WAITS: Final = "It loosens what holds and waits for a second person."


class TenantPolicySpec(TenantPolicyBody):
    note = None  # a note is about one change, and a document is about how it is to be


class _Policy:
    """The policy as an object: it is always there, though there may be no version of it yet."""

    id = None


class TenantPolicyKind(Kind):
    """The tenant's policy, called ``policy``."""

    name = "TenantPolicy"
    action = Action.MANAGE_POLICY
    spec_class = TenantPolicySpec

    def rows(self) -> Iterable[Any]:
        return [_Policy]

    def find(self, name: str) -> Any | None:
        return _Policy if name == POLICY else None

    def name_of(self, row: Any) -> str:
        return POLICY

    def spec(self, row: Any) -> dict[str, Any]:
        held = setting.policy_values(TenantPolicy.objects.in_force())
        return {name: plain(value) for name, value in held.items()}

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        text = f"A tenant has one policy: name it {POLICY}."
        raise Invalid(text, errors={"metadata.name": [text]})

    def change(
        self, row: Any, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        held = setting.policy_values(TenantPolicy.objects.in_force())
        return self._set(held | dict(wanted.values), by)

    def remove(self, row: Any, by: Applier) -> Done:
        if self.asked(row):
            return Done(result=WAITING, note=_WAITS)
        try:
            done = self._set({}, by)
        except Conflict as error:
            return Done(result=LEFT, note=error.message)
        return (
            done if done.result == ASKED_FOR else Done(result=REMOVED, note="Nothing is restricted any more.")
        )

    def asked(self, row: Any) -> bool:
        return ApprovalRequest.objects.pending().filter(what=ApprovalRequest.What.POLICY).exists()

    def _set(self, values: Mapping[str, Any], by: Applier) -> Done:
        done = setting.policy_set(
            values=values,
            set_by=by.asked_by or by.user,
            set_as=by.actor,
            role=by.role,
            note="Applied from a file.",
        )
        return Done(result=ASKED_FOR, note=_WAITS) if done.request else Done(result=CHANGED)


class ApprovalRuleSpec(RuleCreate):
    members = serializers.ListField(
        child=serializers.EmailField(), max_length=50, required=False,
        help_text="Addresses of the people who decide, where members do.",
    )  # fmt: skip


class ApprovalRuleKind(Kind):
    """A rule. Its name is the document's own: rules have none, so one that was never applied gets one of its kind."""

    name = "ApprovalRule"
    action = Action.MANAGE_POLICY
    spec_class = ApprovalRuleSpec

    def rows(self) -> Iterable[ApprovalRule]:
        return ApprovalRule.objects.order_by("created_at", "id")

    def find(self, name: str) -> ApprovalRule | None:
        applied = AppliedObject.objects.filter(kind=self.name, name=name).first()
        if applied is not None:
            return ApprovalRule.objects.filter(id=applied.object_id).first()
        return next((row for row in self.rows() if _made_name(row) == name), None)

    def name_of(self, row: ApprovalRule) -> str:
        applied = AppliedObject.objects.filter(kind=self.name, object_id=row.id).first()
        return applied.name if applied else _made_name(row)

    def spec(self, row: ApprovalRule) -> dict[str, Any]:
        return {"kind": row.kind, **fields_spec(row, rules.FIELDS), "members": _addresses(row.members)}

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        values = dict(wanted.values)
        return Done(result=CREATED, row=rules.rule_create(kind=values.pop("kind"), **_with_ids(values)))

    def change(
        self, row: ApprovalRule, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        refuse_fixed(changed, ["kind"], why="A rule stays of its kind. Add another rule instead.")
        done = rules.rule_change(
            rule=row,
            changes=_with_ids(changed_values(wanted, changed)),
            asked_by=by.asked_by or by.user,
            actor=by.actor,
        )
        return Done(result=ASKED_FOR, row=row, note=_WAITS) if done.request else Done(result=CHANGED, row=row)

    def remove(self, row: ApprovalRule, by: Applier) -> Done:
        if self.asked(row):
            return Done(result=WAITING, row=row, note=_WAITS)
        done = rules.rule_delete(rule=row, asked_by=by.asked_by or by.user, actor=by.actor)
        return Done(result=ASKED_FOR, row=row, note=_WAITS) if done.request else Done(result=REMOVED, row=row)

    def asked(self, row: ApprovalRule) -> bool:
        pending = ApprovalRequest.objects.pending().filter(what=ApprovalRequest.What.RULE)
        return pending.filter(wish__rule=str(row.id)).exists()


def _made_name(row: ApprovalRule) -> str:
    return f"{row.kind}-{row.id.hex[-8:]}"


def _addresses(ids: Sequence[uuid.UUID]) -> list[str]:
    if not ids:
        return []
    found = Membership.objects.filter(user_id__in=ids).values_list("user__email", flat=True)
    return sorted(found)


def _with_ids(values: Mapping[str, Any]) -> dict[str, Any]:
    if "members" not in values:
        return dict(values)
    asked = {address.strip().lower() for address in values["members"]}
    found = dict(Membership.objects.filter(user__email__in=asked).values_list("user__email", "user_id"))
    if missing := sorted(asked - found.keys()):
        text = f"{missing[0]} is no member of the tenant."
        raise Invalid(text, errors={"members": [text]})
    return {**values, "members": [found[address] for address in sorted(asked)]}
