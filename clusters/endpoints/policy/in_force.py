"""The policy that holds for an endpoint now, exceptions included, as the planner takes it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from django.db.models import Q
from django.utils import timezone

from billing.prices import price_book
from billing.rating.prices import MissingPrice, PriceBook
from clusters.errors import PolicyRefused
from clusters.models import Endpoint, NodePool, PolicyException, Revision, TenantPolicy
from clusters.planning.plans import Plan, PlanStatus, price_text
from clusters.planning.problem import OwnerPolicy
from clusters.planning.rules import policy_fault_of_place, policy_fault_of_wish
from tenants.models import Project, Tenant

#: Hours by which spend per month is reckoned, and an amount per month compared with a price per hour.
HOURS_OF_MONTH: Final = 730

_Kind = PolicyException.Restriction


@dataclasses.dataclass(frozen=True, kw_only=True)
class InForce:
    """A version of a tenant's policy with the ``exceptions`` that hold beside it, by id."""

    version: int
    home_zone: str
    exceptions: tuple[uuid.UUID, ...]
    owner: OwnerPolicy


def policy_in_force(
    *,
    tenant: Tenant,
    endpoint: Endpoint | None = None,
    project: Project | None = None,
    now: dt.datetime | None = None,
    spend: bool = True,
) -> InForce | None:
    """Give what holds for an endpoint, or for what is to be ordered in ``project``; None without a policy.

    ``spend`` reads what the tenant's other endpoints cost, too, where its policy caps the month.
    """
    policy = TenantPolicy.objects.filter(tenant=tenant).in_force()
    if policy is None:
        return None
    excepted = _exceptions(tenant, endpoint, project, now or timezone.now())
    allowed = _by_restriction(excepted)
    most, says = _ceiling(policy, allowed, tenant, endpoint) if spend else (None, "")
    floor = frozenset(policy.floor_zones)
    own = frozenset(policy.allowed_zones)
    return InForce(
        version=policy.version,
        home_zone=policy.home_zone,
        exceptions=tuple(each.id for each in excepted),
        owner=OwnerPolicy(
            says=f"policy version {policy.version}",
            # What the operators lock, no exception of the tenant's opens.
            zones=tuple(zones for zones in (own and own | allowed[_Kind.ZONE], floor) if zones),
            certifications=(frozenset(policy.certifications) - allowed[_Kind.CERTIFICATION])
            | frozenset(policy.floor_certifications),
            models=_or_any(policy.allowed_models, allowed[_Kind.MODEL]),
            licences=_or_any(policy.allowed_licences, allowed[_Kind.LICENCE]),
            classes=_or_any(policy.allowed_classes, allowed[_Kind.SLO_CLASS]),
            most_per_hour=most,
            most_says=says,
        ),
    )


def keep_policy(endpoint: Endpoint, pool: NodePool, *, gpus: int, price_factor: Decimal) -> InForce | None:
    """Insist that the policy in force lets an endpoint hold ``gpus`` of a pool; give what holds.

    This is asked wherever GPUs are taken, whatever was planned before.

    Raises:
        PolicyRefused: it does not.
    """
    held = policy_in_force(tenant=endpoint.tenant, endpoint=endpoint)
    if held is None:
        return None
    fault = fault_of(held.owner, endpoint, pool)
    most = held.owner.most_per_hour
    if not fault and most is not None:
        price = _price(price_book(endpoint.tenant.currency, tenant_id=endpoint.tenant_id), pool)
        if price is None:
            fault = f"{pool} has no price, and {held.owner.says} caps what is spent"
        elif (cost := price * gpus * price_factor) > most:
            fault = f"at {price_text(cost)} per hour it is dearer than {held.owner.says} allows: " + (
                held.owner.most_says
            )
    if fault:
        raise refused(held.version, fault)
    return held


def fault_of(owner: OwnerPolicy, endpoint: Endpoint, pool: NodePool) -> str:
    """Say what of an endpoint in a pool a policy does not allow, spend apart; empty where it allows it."""
    region = pool.cluster.region
    return policy_fault_of_wish(
        owner,
        model=endpoint.model.name,
        licence=endpoint.model.licence,
        slo_class=endpoint.slo_class.name,
    ) or policy_fault_of_place(
        owner,
        cluster=pool.cluster.name,
        region=region.code,
        zones=region.zones,
        certifications=region.certifications,
    )


def refused(version: int, fault: str, **extra: object) -> PolicyRefused:
    """Give the error that tells what a policy does not allow."""
    return PolicyRefused(
        f"{fault[:1].upper()}{fault[1:]}. An owner or admin may change the policy, or ask for an exception from it.",
        policy_version=version,
        may_change=["owner", "admin"],
        **extra,
    )


def refuse_by_policy(plan: Plan, held: InForce | None, refusals: list[dict]) -> None:
    """Refuse what the owner's policy bars.

    Raises:
        PolicyRefused: the plan came out so.
    """
    if plan.status == PlanStatus.POLICY:
        raise refused(held.version if held else 0, plan.message, refusals=refusals)


def _exceptions(
    tenant: Tenant, endpoint: Endpoint | None, project: Project | None, now: dt.datetime
) -> list[PolicyException]:
    project_id = endpoint.project_id if endpoint else project.id if project else None
    scope = Q(endpoint=None, project=None) | Q(project__isnull=False, project=project_id)
    if endpoint is not None:
        scope |= Q(endpoint=endpoint.id)
    rows = PolicyException.objects.filter(tenant=tenant).in_force(now)
    return list(rows.filter(scope).order_by("id"))


def _by_restriction(exceptions: Iterable[PolicyException]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {kind: frozenset() for kind in _Kind}
    for each in exceptions:
        found[each.restriction] |= {each.value}
    return found


def _or_any(names: Iterable[str], excepted: frozenset[str]) -> frozenset[str] | None:
    allowed = frozenset(names)
    return allowed | excepted if allowed else None


def _ceiling(
    policy: TenantPolicy, allowed: dict[str, frozenset[str]], tenant: Tenant, endpoint: Endpoint | None
) -> tuple[Decimal | None, str]:
    caps: list[tuple[Decimal, str]] = []
    if policy.most_per_hour is not None:
        most = max([policy.most_per_hour, *map(Decimal, allowed[_Kind.SPEND_HOUR])])
        caps.append((most, f"one endpoint may cost {price_text(most)} {tenant.currency} per hour"))
    if policy.most_per_month is not None:
        most = max([policy.most_per_month, *map(Decimal, allowed[_Kind.SPEND_MONTH])])
        others = spend_per_hour(tenant, besides=endpoint)
        caps.append(
            (
                most / HOURS_OF_MONTH - others,
                f"all endpoints may cost {price_text(most)} {tenant.currency} in a month of {HOURS_OF_MONTH} hours, "
                f"and the others cost {price_text(round(others * HOURS_OF_MONTH, 2))}",
            )
        )
    return min(caps, key=lambda cap: cap[0]) if caps else (None, "")


def spend_per_hour(tenant: Tenant, *, besides: Endpoint | None) -> Decimal:
    """Give what a tenant's endpoints hold now costs an hour at today's prices; a change counts once, as it will be."""
    book = price_book(tenant.currency, tenant_id=tenant.id)
    rows = Revision.objects.filter(tenant=tenant, retired_at=None)
    if besides is not None:
        rows = rows.exclude(endpoint=besides.id)
    newest = rows.order_by("endpoint_id", "-number").distinct("endpoint_id")
    total = Decimal(0)
    for revision in newest.select_related("pool__gpu_type", "pool__cluster__region"):
        each = _price(book, revision.pool)
        if each is None:  # not for sale any more: what it was planned with counts
            each = Decimal(revision.plan["configuration"]["price_per_gpu_hour"])
        total += each * revision.replicas * revision.gpus_per_replica * revision.price_factor
    return total


def _price(book: PriceBook, pool: NodePool) -> Decimal | None:
    try:
        price = book.at(
            "gpu_hour", timezone.now(), gpu_type=pool.gpu_type.name, region=pool.cluster.region.code
        )
    except MissingPrice:
        return None
    return price.amount
