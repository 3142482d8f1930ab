"""Setting a tenant's policy: each change is a version. What loosens it takes two people where the tenant wants that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from django.db import transaction

from clusters.endpoints.approvals.asking import request_open
from clusters.endpoints.approvals.deciding import Asker, four_eyes, others_than
from clusters.endpoints.approvals.judging import Trip
from clusters.endpoints.policy.judging import endpoints_judge
from clusters.endpoints.wishes import tenant_for_update
from clusters.models import (
    ApprovalRequest,
    ApprovalRule,
    CatalogModel,
    Decides,
    Region,
    SloClass,
    TenantPolicy,
)
from tenants.errors import Conflict, Forbidden, Invalid, Stale
from tenants.models import Role, Tenant, User
from tenants.validation import clean

#: What a tenant sets of its policy, and what holds where nothing was set.
FIELDS: Final[dict[str, Any]] = {
    "allowed_zones": [], "home_zone": "", "certifications": [], "allowed_models": [], "allowed_licences": [],
    "allowed_classes": [], "most_per_hour": None, "most_per_month": None, "four_eyes": True, "self_approval": False,
    "link_decisions": True,
}  # fmt: skip
#: What the platform's operators set of it.
FLOOR: Final = ("floor_zones", "floor_certifications")
_LISTS: Final = ("allowed_zones", "allowed_models", "allowed_licences", "allowed_classes")
_CAPS: Final = ("most_per_hour", "most_per_month")

_CHANGE_HOURS: Final = 72


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """What became of a change: it is in force, or ``request`` waits for a second person."""

    policy: TenantPolicy | None
    request: ApprovalRequest | None = None


def policy_values(policy: TenantPolicy | None) -> dict[str, Any]:
    """Give what a tenant set, or what holds where it set nothing."""
    return {name: getattr(policy, name, default) for name, default in FIELDS.items()}


def policy_diff(old: TenantPolicy | None, new: TenantPolicy) -> list[tuple[str, Any, Any]]:
    """Give what differs between two versions: field, before, after."""
    before = policy_values(old) | {name: getattr(old, name, []) for name in FLOOR}
    return [
        (name, value, getattr(new, name)) for name, value in before.items() if value != getattr(new, name)
    ]


def loosened(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Give the fields by which ``after`` allows what ``before`` did not."""
    found = []
    for name in _LISTS:
        old, new = set(before[name]), set(after[name])
        beyond = new - old - (_inside(old) if name == "allowed_zones" else set())
        if old and (not new or beyond):
            found.append(name)
    if not set(before["certifications"]) <= set(after["certifications"]):
        found.append("certifications")
    for name in _CAPS:
        if before[name] is not None and (after[name] is None or after[name] > before[name]):
            found.append(name)
    if before["home_zone"] and before["home_zone"] != after["home_zone"]:
        found.append("home_zone")
    if before["four_eyes"] and not after["four_eyes"]:
        found.append("four_eyes")
    found += [name for name in ("self_approval", "link_decisions") if after[name] and not before[name]]
    return found


@transaction.atomic
def policy_set(
    *,
    values: Mapping[str, Any],
    set_by: Asker | User | None,
    set_as: str,
    role: str,
    note: str = "",
    if_version: int | None = None,
) -> Change:
    """Set the open tenant's policy; what ``values`` leave out is as if it was never set.

    What loosens it becomes a request that a second person decides upon, where the tenant wants four eyes and there is
    a second one.

    Raises:
        Invalid: a value names nothing that exists, or contradicts a rule.
        Forbidden: only an owner may let people decide upon their own requests.
        Conflict: nothing would change, or another change waits for a decision.
        Stale: it is at another version than ``if_version``.
    """
    tenant = tenant_for_update()
    held = TenantPolicy.objects.filter(tenant=tenant).in_force()
    if if_version is not None and if_version != (held.version if held else 0):
        raise Stale(f"The policy is at version {held.version if held else 0} now; read it again.")
    before, after = policy_values(held), FIELDS | dict(values)
    _check(after)
    if after == before:
        raise Conflict("Nothing would change: the policy is so already.")
    if after["self_approval"] and not before["self_approval"] and role != Role.OWNER:
        raise Forbidden("Only an owner may let people decide upon what they asked for themselves.")
    loose = loosened(before, after)
    asker = Asker.of(set_by)
    if loose and four_eyes(tenant.id) and others_than(asker.ids, tenant_id=tenant.id, decides=Decides.ADMIN):
        return Change(policy=held, request=_ask(tenant, held, after, loose, asker, set_as, note))
    return Change(policy=policy_put(values=after, based_on=held.version if held else 0, set_by=asker.user,
                                    set_as=set_as, note=note))  # fmt: skip


def policy_put(
    *, values: Mapping[str, Any], based_on: int, set_by: User | None, set_as: str, note: str = ""
) -> TenantPolicy:
    """Write the next version of the open tenant's policy, and judge by it what runs. Callers hold the tenant.

    Raises:
        Conflict: it is at another version than ``based_on`` by now.
    """
    tenant = tenant_for_update()
    held = TenantPolicy.objects.filter(tenant=tenant).in_force()
    if based_on != (held.version if held else 0):
        raise Conflict("The policy was changed meanwhile; look at it and change it again.")
    known = {name: values[name] for name in FIELDS if name in values}
    for name in _CAPS:
        if isinstance(known.get(name), str):
            known[name] = Decimal(known[name])
    floor = {name: getattr(held, name, []) for name in FLOOR}
    return _write(tenant, held, {**known, **floor}, set_by=set_by, set_as=set_as, note=note)


@transaction.atomic
def policy_floor_set(
    *,
    zones: Sequence[str],
    certifications: Sequence[str],
    set_by: User | None,
    set_as: str,
    note: str = "",
) -> TenantPolicy:
    """Set what operators lock of the open tenant's policy: its own part, and exceptions, cannot go beyond.

    Raises:
        Invalid: a zone or certification is none that any region has.
    """
    tenant = tenant_for_update()
    held = TenantPolicy.objects.filter(tenant=tenant).in_force()
    _check_places(zones, "floor_zones")
    _check_certifications(certifications, "floor_certifications")
    values = policy_values(held) | {"floor_zones": list(zones), "floor_certifications": list(certifications)}
    return _write(tenant, held, values, set_by=set_by, set_as=set_as, note=note, by_platform=True)


def _write(
    tenant: Tenant,
    held: TenantPolicy | None,
    values: Mapping[str, Any],
    *,
    set_by: User | None,
    set_as: str,
    note: str,
    by_platform: bool = False,
) -> TenantPolicy:
    policy = TenantPolicy(
        tenant=tenant,
        version=held.version + 1 if held else 1,
        set_by=set_by,
        set_as=set_as[:120],
        by_platform=by_platform,
        note=note[:300],
        **values,
    )
    clean(policy)
    policy.save()
    endpoints_judge(tenant)
    return policy


def _ask(
    tenant: Tenant,
    held: TenantPolicy | None,
    after: Mapping[str, Any],
    loose: Sequence[str],
    set_by: Asker,
    set_as: str,
    note: str,
) -> ApprovalRequest:
    what = ApprovalRequest.What.POLICY
    if ApprovalRequest.objects.pending().filter(tenant=tenant, what=what).exists():
        raise Conflict("Another change of the policy waits for a decision; have it decided or withdraw it.")
    names = ", ".join(name.replace("_", " ") for name in loose)
    said = f" {note}" if note else ""
    wish = {name: str(value) if isinstance(value, Decimal) else value for name, value in after.items()}
    return request_open(
        what=what,
        endpoint=None,
        title="Loosen the policy",
        wish={"policy": wish, "version": held.version if held else 0},
        figures=None,
        trips=[change_trip(f"It loosens {names}, which takes a second person.{said}")],
        asked_by=set_by,
        asked_as=set_as,
        tenant_id=tenant.id,
    )


def change_trip(reason: str) -> Trip:
    """Give what it takes to loosen policy or rules: a second owner or admin."""
    return Trip(
        rule="four-eyes",
        kind="four-eyes",
        reason=reason,
        decides=Decides.ADMIN,
        part=Decides.ADMIN,
        valid_hours=_CHANGE_HOURS,
    )


def _check(values: Mapping[str, Any]) -> None:
    unknown = sorted(set(values) - set(FIELDS))
    if unknown:
        raise Invalid(
            f"A policy has no {unknown[0]}.", errors={name: ["There is no such part."] for name in unknown}
        )
    _check_places(values["allowed_zones"], "allowed_zones")
    if values["home_zone"]:
        _check_places([values["home_zone"]], "home_zone")
    _check_certifications(values["certifications"], "certifications")
    models = CatalogModel.objects.all()
    _check_names(
        values["allowed_models"], set(models.values_list("name", flat=True)), "allowed_models", "model"
    )
    licences = set(models.values_list("licence", flat=True))
    _check_names(values["allowed_licences"], licences, "allowed_licences", "licence of the catalog")
    classes = set(SloClass.objects.values_list("name", flat=True))
    _check_names(values["allowed_classes"], classes, "allowed_classes", "class")
    if not values["home_zone"] and _needs_home():
        text = "A rule asks whether something runs outside the home zone; set one, or remove the rule."
        raise Invalid(text, errors={"home_zone": [text]})


def _inside(zones: set[str]) -> set[str]:
    """Give the codes of the regions that belong to one of the zones."""
    return {region.code for region in Region.objects.all() if zones & set(region.zones)}


def _needs_home() -> bool:
    rules = ApprovalRule.objects.filter(kind=ApprovalRule.Kind.OUTSIDE_HOME_ZONE, enabled=True)
    return rules.exists()


def _check_places(names: Iterable[str], field: str) -> None:
    known = {place for region in Region.objects.all() for place in (region.code, *region.zones)}
    _check_names(names, known, field, "zone or region")


def _check_certifications(names: Iterable[str], field: str) -> None:
    known = {name for region in Region.objects.all() for name in region.certifications}
    _check_names(names, known, field, "certification of any region")


def _check_names(names: Iterable[str], known: set[str], field: str, what: str) -> None:
    unknown = sorted(set(names) - known)
    if unknown:
        text = f"There is no {what} {unknown[0]!r}."
        raise Invalid(text, errors={field: [text]})
