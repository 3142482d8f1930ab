"""What tokens and GPU time came to over all tenants, and what of the estate's cost was billed again."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

from django.db.models import Sum
from django.db.models.functions import TruncMonth

from billing.models import ClusterDay, EndpointMonth, Statement
from billing.reports.asking import Asked, Dimension
from billing.reports.figures import gpu_hours, money, per_million, share
from billing.reports.reading import Sums, read
from tenants.models import Tenant

_NAMES = (
    "held",
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "amount",
    "asset_cost",
    "idle_asset_cost",
)
_MONEY = ("currency", "asset_currency")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenCost:
    """What one group's GPU time came to at the tenants' prices (``amount``) and what it cost its owner.

    ``per_million`` divide them by input and output tokens; None without tokens. Groups are told apart by currency.
    ``target`` is what a million tokens of the group's class should cost at most, and ``of_target`` which part of it
    ``amount_per_million`` is; None where the group is of no one class, has no target, or is in another currency.
    """

    bucket: dt.datetime | None
    group: str
    names: dict[str, str]
    gpu_hours: Decimal
    requests: int
    tokens: int
    currency: str
    amount: Decimal
    amount_per_million: Decimal | None
    asset_currency: str
    asset_cost: Decimal
    idle_asset_cost: Decimal
    asset_cost_per_million: Decimal | None
    target: Decimal | None
    of_target: Decimal | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostReport:
    """Groups from the dearest on, and what they were in each bucket."""

    asked: Asked
    groups: tuple[TokenCost, ...]
    points: tuple[TokenCost, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recovery:
    """One calendar month in one currency: what tenants were billed, and what the GPUs cost.

    ``billed`` are final statements and ``drafts`` those that are not, for months in the tenants' zones; ``rated`` is
    GPU time held in the UTC month at the tenants' prices, ``cost`` the asset cost of it: of what was ``held``, ``free``
    and the platform's. ``recovered`` is (billed + drafts) / cost.
    """

    month: dt.date
    currency: str
    billed: Decimal
    drafts: Decimal
    rated: Decimal
    cost: Decimal
    held_cost: Decimal
    free_cost: Decimal
    platform_cost: Decimal
    recovered: Decimal | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Charged:
    """What a tenant's statements of some months come to."""

    tenant_id: uuid.UUID
    tenant: str
    slug: str
    currency: str
    total: Decimal


def cost_report(
    asked: Asked, *, targets: Mapping[str, Decimal] | None = None, currency: str = ""
) -> CostReport:
    """Sum money and tokens by group, currency and bucket, in the platform's scope; what is past the most is left out.

    ``targets`` are those of the classes by name, in ``currency``.
    """
    aims = _Aims(targets or {}, currency)
    found = read(asked, _NAMES, order="amount", served=True, further=_MONEY)
    return CostReport(
        asked=asked,
        groups=tuple(_row(each, aims) for each in found.groups if each.key is not None),
        points=tuple(_row(each, aims) for each in found.points if each.key is not None),
    )


@dataclasses.dataclass(frozen=True)
class _Aims:
    targets: Mapping[str, Decimal]
    currency: str

    def of(self, names: Mapping[str, str], currency: str) -> Decimal | None:
        return self.targets.get(names.get(Dimension.SLO_CLASS, "")) if currency == self.currency else None


def _row(sums: Sums, aims: _Aims) -> TokenCost:
    numbers = sums.numbers
    tokens = numbers["input_tokens"] + numbers["output_tokens"]
    currency, asset_currency = (sums.key or ("", ""))[-2:]
    each = per_million(numbers["amount"], tokens)
    target = aims.of(sums.names, currency)
    return TokenCost(
        bucket=sums.bucket,
        group=sums.label,
        names=sums.names,
        gpu_hours=gpu_hours(numbers["held"]),
        requests=int(numbers["requests"]),
        tokens=int(tokens),
        currency=currency,
        amount=money(numbers["amount"]),
        amount_per_million=each,
        asset_currency=asset_currency,
        asset_cost=money(numbers["asset_cost"]),
        idle_asset_cost=money(numbers["idle_asset_cost"]),
        asset_cost_per_million=per_million(numbers["asset_cost"], tokens),
        target=target,
        of_target=share(each, target),
    )


def recovery_report(*, first: dt.date, last: dt.date) -> list[Recovery]:
    """Set what was billed beside what GPUs cost, by calendar month from that of ``first`` to that of ``last``."""
    first, last = first.replace(day=1), last.replace(day=1)
    sums: defaultdict[tuple[dt.date, str], defaultdict[str, Decimal]] = defaultdict(
        lambda: defaultdict(Decimal)
    )
    statements = Statement.objects.filter(month__gte=first, month__lte=last)
    for row in statements.values("month", "currency", "state").order_by().annotate(sum=Sum("total")):
        kind = "billed" if row["state"] == Statement.State.FINAL else "drafts"
        sums[row["month"], row["currency"]][kind] += row["sum"]
    rated = EndpointMonth.objects.filter(month__gte=first, month__lte=last).values("month", "currency")
    for row in rated.order_by().annotate(sum=Sum("amount")):
        sums[row["month"], row["currency"]]["rated"] += row["sum"]
    for month, currency, costs in _asset_costs(first, last):
        for name, cost in costs.items():
            sums[month, currency][name] += cost
    return [_recovery(month, currency, found) for (month, currency), found in sorted(sums.items())]


def _asset_costs(first: dt.date, last: dt.date) -> Iterable[tuple[dt.date, str, dict[str, Decimal]]]:
    until = (last + dt.timedelta(days=32)).replace(day=1)
    days = ClusterDay.objects.filter(bucket__gte=_midnight(first), bucket__lt=_midnight(until)).exclude(
        currency=""
    )
    months = days.annotate(month=TruncMonth("bucket", tzinfo=dt.UTC)).values("month", "currency").order_by()
    names = {
        "cost": "cost",
        "held_cost": "held_cost",
        "free_cost": "idle_cost",
        "platform_cost": "platform_cost",
    }
    for row in months.annotate(**{f"sum_{name}": Sum(column) for name, column in names.items()}):
        yield row["month"].date(), row["currency"], {name: row[f"sum_{name}"] for name in names}


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def _recovery(month: dt.date, currency: str, found: defaultdict[str, Decimal]) -> Recovery:
    names = ("billed", "drafts", "rated", "cost", "held_cost", "free_cost", "platform_cost")
    return Recovery(
        month=month,
        currency=currency,
        **{name: money(found[name]) for name in names},
        recovered=share(found["billed"] + found["drafts"], found["cost"]),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenantMonth:
    """What a tenant's endpoints held and served in a calendar month of UTC so far, at its prices."""

    gpu_hours: Decimal
    amount: Decimal
    requests: int


def costs_by_tenant(*, month: dt.date) -> dict[uuid.UUID, TenantMonth]:
    """Give what each tenant held in a month, as the reports know it; tenants that held nothing are left out."""
    rows = EndpointMonth.objects.filter(month=month).values("tenant_id").order_by()
    sums = rows.annotate(sum_held=Sum("held"), sum_amount=Sum("amount"), sum_requests=Sum("requests"))
    return {
        row["tenant_id"]: TenantMonth(
            gpu_hours=gpu_hours(row["sum_held"]),
            amount=money(row["sum_amount"]),
            requests=int(row["sum_requests"]),
        )
        for row in sums
    }


def top_charged(*, first: dt.date, last: dt.date, most: int) -> list[Charged]:
    """Give the tenants whose statements of the months from ``first`` to ``last`` come to most, drafts counted in."""
    rows = (
        Statement.objects.filter(month__gte=first.replace(day=1), month__lte=last.replace(day=1))
        .values("tenant_id", "currency")
        .annotate(sum=Sum("total"))
        .order_by("-sum", "tenant_id")[:most]
    )
    tenants = Tenant.objects.in_bulk({row["tenant_id"] for row in rows})
    return [
        Charged(
            tenant_id=row["tenant_id"],
            tenant=tenants[row["tenant_id"]].name,
            slug=tenants[row["tenant_id"]].slug,
            currency=row["currency"],
            total=money(row["sum"]),
        )
        for row in rows
    ]
