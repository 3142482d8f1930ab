"""Which rules a wish trips, and whether an approval that was given covers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from django.conf import settings

from clusters.endpoints.approvals.figures import Figures, price_of
from clusters.endpoints.policy.in_force import HOURS_OF_MONTH
from clusters.models import ApprovalRequest, ApprovalRule, Decides, Endpoint, Revision
from clusters.planning.plans import price_text

_Kind = ApprovalRule.Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trip:
    """A rule that a wish trips: why, and whose agreement (``part``) that takes."""

    rule: str
    kind: str
    reason: str
    decides: str
    part: str
    members: tuple[str, ...] = ()
    valid_hours: int = 72

    def to_document(self) -> dict[str, Any]:
        """Give it as JSON-ready builtins."""
        return dataclasses.asdict(self) | {"members": list(self.members)}


class NeedsApproval(Exception):
    """Raised by a service in the middle of a wish that has to be agreed to first; what was half done is undone."""

    def __init__(self, endpoint: Endpoint, figures: Figures, trips: Sequence[Trip]) -> None:
        super().__init__("; ".join(trip.reason for trip in trips))
        self.endpoint, self.figures, self.trips = endpoint, figures, tuple(trips)


def judge(
    endpoint: Endpoint, figures: Figures, *, before: Figures | None, granted: ApprovalRequest | None
) -> None:
    """Let a wish pass that trips no rule, or whose approval covers what it comes to now.

    ``before`` are the figures of what runs: a rule is tripped only by what gets worse.

    Raises:
        NeedsApproval: somebody has to agree to it.
    """
    trips = tripped(endpoint, figures, before=before)
    if trips and not (granted and covers(granted, figures, trips)):
        raise NeedsApproval(endpoint, figures, trips)


def tripped(endpoint: Endpoint, figures: Figures, *, before: Figures | None) -> list[Trip]:
    """Give the rules of the open tenant that a wish trips."""
    found = []
    for rule in ApprovalRule.objects.filter(tenant=endpoint.tenant_id, enabled=True):
        reason = _JUDGES[_Kind(rule.kind)](rule, endpoint, figures, before)
        if reason:
            found.append(trip_of(rule, reason))
    return found


def trip_of(rule: ApprovalRule, reason: str) -> Trip:
    """Give what tripping a rule means."""
    named = rule.decides == Decides.MEMBERS
    return Trip(
        rule=str(rule.id),
        kind=rule.kind,
        reason=reason,
        decides=rule.decides,
        part=f"members:{rule.id}" if named else rule.decides,
        members=tuple(map(str, rule.members)) if named else (),
        valid_hours=rule.valid_hours,
    )


def covers(granted: ApprovalRequest, figures: Figures, trips: Sequence[Trip]) -> bool:
    """Say whether what was agreed to is, give or take a little of its price, what it would come to now.

    That takes the same rules with the same people to ask, and the same answer to what each rule asks about.
    """
    agreed = {(trip["rule"], trip["part"], tuple(trip["members"])) for trip in granted.trips}
    if not agreed.issuperset((trip.rule, trip.part, trip.members) for trip in trips):
        return False
    quoted = price_of(granted.quote)
    tolerance = 1 + Decimal(settings.APPROVAL_PRICE_TOLERANCE_PERCENT) / 100
    if quoted is None or figures.price_per_hour > quoted * tolerance:
        return False
    kinds = {trip.kind for trip in trips}
    if _Kind.QUOTA_ABOVE in kinds and figures.tenant_gpus > granted.quote["tenant_gpus"]:
        return False
    if _Kind.RESERVED_GPUS in kinds and figures.pool != granted.quote["pool"]:
        return False
    return _Kind.OUTSIDE_HOME_ZONE not in kinds or figures.region == granted.quote["region"]


def _price(rule: ApprovalRule, endpoint: Endpoint, figures: Figures, before: Figures | None) -> str:
    price, per = figures.price_per_hour, "hour"
    if rule.monthly:
        price, per = round(figures.price_per_month, 2), f"month of {HOURS_OF_MONTH} hours"
    if rule.amount is None or price <= rule.amount:
        return ""
    if before is not None and figures.price_per_hour <= before.price_per_hour:
        return ""
    return (
        f"It costs {price_text(price)} {figures.currency} per {per}, more than "
        f"{price_text(rule.amount)} {figures.currency}."
    )


def _quota(rule: ApprovalRule, endpoint: Endpoint, figures: Figures, before: Figures | None) -> str:
    limit, said = rule.gpus, f"{rule.gpus}"
    if rule.share is not None:
        if figures.gpu_quota is None:
            return ""
        limit, said = figures.gpu_quota * rule.share // 100, f"{rule.share} % of the quota"
    if limit is None or figures.tenant_gpus <= limit:
        return ""
    if before is not None and figures.tenant_gpus <= before.tenant_gpus:
        return ""
    return f"The tenant would hold {figures.tenant_gpus} GPUs, more than {said}."


def _abroad(rule: ApprovalRule, endpoint: Endpoint, figures: Figures, before: Figures | None) -> str:
    if before is not None and before.region == figures.region:
        return ""
    if figures.home_zone and figures.home_zone in (figures.region, *figures.zones):
        return ""
    home = figures.home_zone or "which is not set"
    return f"It would run in region {figures.region}, outside the home zone {home}."


def _reserved(rule: ApprovalRule, endpoint: Endpoint, figures: Figures, before: Figures | None) -> str:
    if figures.gpu not in rule.gpu_types and figures.pool not in rule.pools:
        return ""
    if before is not None and (before.pool, before.gpus) == (figures.pool, figures.gpus):
        return ""
    return f"{figures.gpu} in {figures.pool} are reserved."


def _licence(rule: ApprovalRule, endpoint: Endpoint, figures: Figures, before: Figures | None) -> str:
    known = Revision.objects.filter(tenant=endpoint.tenant_id, endpoint__model__licence=figures.licence)
    if before is not None or known.exists():
        return ""
    return f"{figures.model} is the first model here under the licence {figures.licence}."


_Judge = Callable[[ApprovalRule, Endpoint, Figures, Figures | None], str]
_JUDGES: Final[dict[_Kind, _Judge]] = {
    _Kind.PRICE_ABOVE: _price,
    _Kind.QUOTA_ABOVE: _quota,
    _Kind.OUTSIDE_HOME_ZONE: _abroad,
    _Kind.RESERVED_GPUS: _reserved,
    _Kind.NEW_MODEL_LICENCE: _licence,
}
