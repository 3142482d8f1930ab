"""Rules of what needs approval: made, changed, removed; what loosens them takes two where the tenant wants that."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.db import transaction

from clusters.endpoints.approvals.asking import request_open
from clusters.endpoints.approvals.deciding import WORDS, Asker, four_eyes, others_than
from clusters.endpoints.policy.setting import change_trip
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import ApprovalRequest, ApprovalRule, Decides, GpuType, NodePool, TenantPolicy
from tenants.errors import Conflict, Invalid
from tenants.models import Membership, Tenant, User
from tenants.validation import clean

#: What of a rule can be set; its kind, once.
FIELDS: Final = (
    "amount", "monthly", "gpus", "share", "gpu_types", "pools", "decides", "members", "valid_hours", "enabled",
)  # fmt: skip
MOST_RULES: Final = 50
_Kind = ApprovalRule.Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleChange:
    """What became of a change: it is in force, or ``request`` waits for a second person."""

    rule: ApprovalRule | None
    request: ApprovalRequest | None = None


@transaction.atomic
def rule_create(*, kind: str, **values: Any) -> ApprovalRule:
    """Make a rule of the open tenant, which holds from the next wish on.

    Raises:
        Invalid: something that its kind needs is missing, or names nothing that exists.
        Conflict: the tenant has as many rules as it may.
    """
    tenant = tenant_for_update()
    if ApprovalRule.objects.filter(tenant=tenant).count() >= MOST_RULES:
        raise Conflict(f"A tenant has at most {MOST_RULES} rules; remove one that is not used.")
    rule = ApprovalRule(tenant=tenant, kind=kind, **_stored(values))
    _check(rule, tenant)
    rule.save()
    return rule


@transaction.atomic
def rule_change(
    *, rule: ApprovalRule, changes: Mapping[str, Any], asked_by: Asker | User | None, actor: str
) -> RuleChange:
    """Change a rule; what loosens it becomes a request where the tenant wants four eyes.

    Raises:
        Invalid: as for making one.
    """
    tenant = tenant_for_update()
    held = ApprovalRule.objects.get(id=rule.id)
    stored = _stored(changes)
    news = {name: value for name, value in stored.items() if getattr(held, name) != value}
    if not news:
        return RuleChange(rule=held)
    tried = ApprovalRule(
        tenant=tenant, kind=held.kind, **{name: getattr(held, name) for name in FIELDS} | news
    )
    _check(tried, tenant)
    if _loosens(held, tried) and _takes_two(tenant, asked_by):
        return RuleChange(rule=held, request=_ask(tenant, held, news, asked_by, actor))
    return RuleChange(rule=rule_put(rule_id=held.id, changes=news))


@transaction.atomic
def rule_delete(*, rule: ApprovalRule, asked_by: Asker | User | None, actor: str) -> RuleChange:
    """Remove a rule, or ask for that where the tenant wants four eyes."""
    tenant = tenant_for_update()
    held = ApprovalRule.objects.get(id=rule.id)
    if held.enabled and _takes_two(tenant, asked_by):
        return RuleChange(rule=held, request=_ask(tenant, held, {"removed": True}, asked_by, actor))
    rule_put(rule_id=held.id, changes={"removed": True})
    return RuleChange(rule=None)


def rule_put(*, rule_id: uuid.UUID | str, changes: Mapping[str, Any]) -> ApprovalRule | None:
    """Write what was decided of a rule. Callers hold the tenant; None where it is gone by then.

    Raises:
        Conflict: it is gone already.
    """
    rule = ApprovalRule.objects.filter(id=rule_id).first()
    if rule is None:
        raise Conflict("The rule is gone already.")
    if changes.get("removed"):
        rule.delete()
        return None
    for name, value in _stored(changes).items():
        setattr(rule, name, value)
    rule.save()
    return rule


def rule_text(rule: ApprovalRule, currency: str) -> str:
    """Say in one sentence what a rule asks about."""
    match rule.kind:
        case _Kind.PRICE_ABOVE:
            per = "per month of 730 hours" if rule.monthly else "per hour"
            return f"Costs more than {rule.amount.normalize():f} {currency} {per}"
        case _Kind.QUOTA_ABOVE:
            most = f"{rule.gpus} GPUs" if rule.share is None else f"{rule.share} % of the GPU quota"
            return f"The tenant would hold more than {most}"
        case _Kind.RESERVED_GPUS:
            return f"Takes reserved GPUs: {', '.join([*rule.gpu_types, *rule.pools])}"
        case _Kind.OUTSIDE_HOME_ZONE:
            return "Runs outside the home zone"
        case _:
            return "Uses a licence that is new here"


def lonely(rule: ApprovalRule) -> bool:
    """Say whether fewer than two could decide by a rule, so that what one of them asks for nobody may decide."""
    members = list(map(str, rule.members))
    everybody = Membership.objects.filter(tenant=rule.tenant_id).values_list("user_id", flat=True)
    return any(
        not others_than({user_id}, tenant_id=rule.tenant_id, decides=rule.decides, members=members)
        for user_id in [None, *everybody]
    )


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    stored = {name: values[name] for name in FIELDS if name in values}
    if isinstance(stored.get("amount"), str):
        stored["amount"] = Decimal(stored["amount"])
    if "members" in stored:
        stored["members"] = [uuid.UUID(str(each)) for each in stored["members"]]
    return stored


def _loosens(old: ApprovalRule, new: ApprovalRule) -> bool:
    if old.enabled and not new.enabled:
        return True
    if not old.enabled:
        return False
    if new.decides != old.decides or new.members != old.members or new.valid_hours > old.valid_hours:
        return True
    for name in ("amount", "gpus", "share"):
        before, after = getattr(old, name), getattr(new, name)
        if (before is None) != (after is None) or (before is not None and after > before):
            return True
    if old.monthly and not new.monthly:
        return True
    return not (set(old.gpu_types) <= set(new.gpu_types) and set(old.pools) <= set(new.pools))


def _takes_two(tenant: Tenant, asked_by: Asker | User | None) -> bool:
    return four_eyes(tenant.id) and others_than(
        Asker.of(asked_by).ids, tenant_id=tenant.id, decides=Decides.ADMIN
    )


def _ask(
    tenant: Tenant, rule: ApprovalRule, changes: Mapping[str, Any], asked_by: Asker | User | None, actor: str
) -> ApprovalRequest:
    pending = ApprovalRequest.objects.pending().filter(
        tenant=tenant, what=ApprovalRequest.What.RULE, wish__rule=str(rule.id)
    )
    if pending.exists():
        raise Conflict("Another change of this rule waits for a decision; have it decided or withdraw it.")
    said = "Removes" if changes.get("removed") else "Loosens"
    wish = {
        name: str(value)
        if isinstance(value, Decimal)
        else list(map(str, value))
        if name == "members"
        else value
        for name, value in changes.items()
    }
    what = rule_text(rule, tenant.currency)
    return request_open(
        what=ApprovalRequest.What.RULE,
        endpoint=None,
        title=f"{said.removesuffix('s')} the rule: {what}",
        wish={"rule": str(rule.id), "changes": wish},
        figures=None,
        trips=[change_trip(f"{said} a rule that asks {WORDS[rule.decides]}, which takes a second person.")],
        asked_by=asked_by,
        asked_as=actor,
        tenant_id=tenant.id,
    )


def _check(rule: ApprovalRule, tenant: Tenant) -> None:
    errors: dict[str, list[str]] = {}
    if rule.kind == _Kind.PRICE_ABOVE and rule.amount is None:
        errors["amount"] = ["Give the amount above which somebody is asked."]
    if rule.kind == _Kind.QUOTA_ABOVE and (rule.gpus is None) == (rule.share is None):
        errors["gpus"] = ["Give a number of GPUs, or a share of the quota."]
    if rule.kind == _Kind.RESERVED_GPUS and not (rule.gpu_types or rule.pools):
        errors["gpu_types"] = ["Name GPU types or pools that are reserved."]
    unknown = set(rule.gpu_types) - set(GpuType.objects.values_list("name", flat=True))
    if unknown:
        errors["gpu_types"] = [f"There is no GPU type {min(unknown)!r}."]
    if rule.pools:
        pools = {str(pool) for pool in NodePool.objects.select_related("cluster")}
        if strange := set(rule.pools) - pools:
            errors["pools"] = [f"There is no pool {min(strange)!r}."]
    if rule.kind == _Kind.OUTSIDE_HOME_ZONE:
        policy = TenantPolicy.objects.filter(tenant=tenant).in_force()
        if policy is None or not policy.home_zone:
            errors["kind"] = ["Set the home zone in the policy first."]
    if rule.decides == Decides.MEMBERS:
        found = Membership.objects.filter(tenant=tenant, user_id__in=rule.members).count()
        if not rule.members or found != len(set(rule.members)):
            errors["members"] = ["Name members of the tenant."]
    if errors:
        raise Invalid(next(iter(errors.values()))[0], errors=errors)
    clean(rule)
