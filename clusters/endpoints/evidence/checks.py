"""What evidence says of itself: was every GPU where it had to be, was the policy kept, is the audit whole."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from clusters.endpoints.evidence.demand import Demand
from clusters.models import PolicyException, TenantPolicy
from clusters.planning.problem import OwnerPolicy
from clusters.planning.residency import residency_allows
from clusters.planning.rules import policy_fault_of_place


@dataclasses.dataclass(frozen=True)
class Held:
    """GPUs that were held somewhere from ``since`` until ``until``. ``place`` is None where nobody kept what it was."""

    what: str
    since: dt.datetime
    until: dt.datetime
    place: dict[str, Any] | None


def residency_check(held: Iterable[Held], demanded: Sequence[Demand]) -> dict[str, Any]:
    """Say whether every interval in which GPUs were held lay where it was demanded."""
    return _each(
        "residency",
        "Every GPU was held where the endpoint's residency demands.",
        held,
        demanded,
        lambda demand, place: (
            ""
            if residency_allows(demand.residency, place["region"], place["zones"])
            else f"{place['region']} (zones {', '.join(place['zones']) or 'none'}) is not within {demand.residency}"
        ),
    )


def certification_check(held: Iterable[Held], demanded: Sequence[Demand]) -> dict[str, Any]:
    """Say whether every place held the certifications that were demanded."""

    def fault(demand: Demand, place: dict[str, Any]) -> str:
        missing = sorted(set(demand.certifications) - set(place["certifications"]))
        return f"{place['region']} did not hold {', '.join(missing)}" if missing else ""

    return _each(
        "certifications",
        "Every place held the certifications that the endpoint demands.",
        held,
        demanded,
        fault,
    )


def policy_check(
    placed: Iterable[tuple[Held, TenantPolicy | None, Sequence[PolicyException]]],
) -> dict[str, Any]:
    """Say whether every placement was within the policy version, and the exceptions, that it was placed under."""
    findings, unknown = [], []
    for each, policy, exceptions in placed:
        if policy is None:
            continue
        if each.place is None:
            unknown.append(_finding(each, "what the place was then was not kept"))
            continue
        fault = policy_fault_of_place(_owner(policy, exceptions), cluster=each.what, **_asked(each.place))
        if fault:
            findings.append(_finding(each, fault))
    return verdict("policy", "Every placement was within the tenant's policy as of then.", findings, unknown)


def verdict(
    name: str, claim: str, findings: list[dict[str, Any]], unknown: list[dict[str, Any]]
) -> dict[str, Any]:
    """Give one check: ``answer`` is yes, no, or not-proven where something that it needs was not kept."""
    answer = "no" if findings else "not-proven" if unknown else "yes"
    return {"name": name, "claim": claim, "answer": answer, "findings": findings, "unknown": unknown}


def _each(
    name: str,
    claim: str,
    held: Iterable[Held],
    demanded: Sequence[Demand],
    fault_of: Callable[[Demand, dict[str, Any]], str],
) -> dict[str, Any]:
    findings, unknown = [], []
    for each in held:
        if each.place is None:
            unknown.append(_finding(each, "what the place was then was not kept"))
            continue
        for demand in demanded:
            if demand.overlaps(each.since, each.until) and (fault := fault_of(demand, each.place)):
                both = dataclasses.replace(
                    each, since=max(each.since, demand.since), until=min(each.until, demand.until)
                )
                findings.append(_finding(both, fault))
    return verdict(name, claim, findings, unknown)


def _finding(held: Held, why: str) -> dict[str, Any]:
    return {"what": held.what, "from": moment(held.since), "until": moment(held.until), "why": why}


def _owner(policy: TenantPolicy, exceptions: Sequence[PolicyException]) -> OwnerPolicy:
    kinds = PolicyException.Restriction
    zones = {each.value for each in exceptions if each.restriction == kinds.ZONE}
    excepted = {each.value for each in exceptions if each.restriction == kinds.CERTIFICATION}
    own, floor = frozenset(policy.allowed_zones), frozenset(policy.floor_zones)
    return OwnerPolicy(
        says=f"policy version {policy.version}",
        zones=tuple(each for each in (own and own | zones, floor) if each),
        certifications=(frozenset(policy.certifications) - excepted) | frozenset(policy.floor_certifications),
    )


def _asked(place: dict[str, Any]) -> dict[str, Any]:
    return {name: place[name] for name in ("region", "zones", "certifications")}


def moment(at: dt.datetime | None) -> str | None:
    """Write a moment in UTC, to the microsecond."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if at else None
