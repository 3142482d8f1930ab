"""What one endpoint could save, and how that was computed. Plain looks; nothing is written here."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

from django.db.models import Sum

from billing.models import ClusterDay, EndpointDay
from billing.quantities import DAY
from clusters.endpoints import placement
from clusters.endpoints.load.measured import figure, load_of, measured_load, with_load
from clusters.endpoints.load.replanning import replan_find
from clusters.endpoints.planning import Market, OrderTerms
from clusters.models import Endpoint, Revision, Saving, Wanted
from clusters.planning.plans import Configuration
from tenants.errors import BerthError

#: How far back is looked, in whole days of UTC, and how many of them there must be GPU time of.
WINDOW_DAYS: Final = 7
LEAST_DAYS: Final = 3
#: Part of the held time that must be idle, and GPU-hours of it in the window, for an endpoint to count as idle.
IDLE_SHARE: Final = Decimal("0.3")
IDLE_HOURS: Final = Decimal(12)
#: A change saves at least this part of what the endpoint costs: less is within the error of what was measured.
LEAST_SAVED: Final = Decimal("0.05")
MONTH_DAYS: Final = 30
MONTH_HOURS: Final = 24 * MONTH_DAYS
_HOUR_S: Final = 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A finding; money in 30 days, as :class:`~clusters.models.Saving` keeps it."""

    kind: Saving.Kind
    what: str
    amount: Decimal
    gpu_hours: Decimal
    asset_amount: Decimal | None
    asset_currency: str
    how: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """What an endpoint held in the window: hours of GPUs, what they cost at its prices and their owner."""

    days: int
    held: Decimal
    idle: Decimal
    requests: int
    amount: Decimal
    asset_cost: Decimal
    idle_asset_cost: Decimal
    asset_currency: str

    @property
    def asset_rate(self) -> Decimal | None:
        """What an hour of its GPUs costs their owner, None where no rate is known."""
        return self.asset_cost / self.held if self.held and self.asset_currency else None


def held_of(endpoint_ids: Collection[uuid.UUID], *, until: dt.date) -> dict[uuid.UUID, Held]:
    """Give what endpoints held in the window of whole days before ``until``, in one query."""
    rows = (
        EndpointDay.objects.filter(day__gte=until - WINDOW_DAYS * DAY, day__lt=until, endpoint_id__in=endpoint_ids)
        .values("endpoint_id", "day", "asset_currency")
        .order_by()
        .annotate(
            sum_held=Sum("held"), sum_idle=Sum("idle"), sum_requests=Sum("requests"), sum_amount=Sum("amount"),
            sum_cost=Sum("asset_cost"), sum_idle_cost=Sum("idle_asset_cost"),
        )
    )  # fmt: skip
    days: dict[uuid.UUID, list[dict]] = {}
    for row in rows:
        days.setdefault(row["endpoint_id"], []).append(row)
    return {endpoint_id: _held(found) for endpoint_id, found in days.items()}


def _held(rows: list[dict]) -> Held:
    def total(name: str) -> Decimal:
        return sum((row[f"sum_{name}"] for row in rows), Decimal(0))

    currencies = {row["asset_currency"] for row in rows if row["sum_held"]}
    return Held(
        days=len({row["day"] for row in rows if row["sum_held"]}),
        held=total("held") / _HOUR_S,
        idle=total("idle") / _HOUR_S,
        requests=int(total("requests")),
        amount=total("amount"),
        asset_cost=total("cost"),
        idle_asset_cost=total("idle_cost"),
        asset_currency=currencies.pop() if len(currencies) == 1 else "",
    )


def find_idle(endpoint: Endpoint, held: Held | None) -> Found | None:
    """Say what an endpoint's hours without requests cost, if they are many. Shared endpoints wait for all tenants."""
    if held is None or held.days < LEAST_DAYS or endpoint.shared or endpoint.wanted != Wanted.RUNNING:
        return None
    if held.idle < IDLE_HOURS or held.idle < IDLE_SHARE * held.held:
        return None
    share = held.idle / held.held
    a_month = Decimal(MONTH_DAYS) / held.days
    amount = held.amount * share * a_month
    if not amount:
        return None
    never = held.requests == 0
    return Found(
        kind=Saving.Kind.IDLE,
        what=f"No request in {held.days} days. Delete it, or pause it until it is needed."
        if never
        else f"Idle in {share:.0%} of the GPU time that it holds. Pause it when it is not needed, or scale it down.",
        amount=amount,
        gpu_hours=held.idle * a_month,
        asset_amount=held.idle_asset_cost * a_month if held.asset_currency else None,
        asset_currency=held.asset_currency,
        how=(
            f"In the last {held.days} whole days (UTC) it held {held.held:.1f} GPU-hours; {held.idle:.1f} of them lay"
            " in hours in which it got no request.",
            f"They cost {held.amount * share:.2f} {endpoint.tenant.currency} of {held.amount:.2f}; for 30 days that is"
            f" times 30/{held.days}.",
        ),
    )


def find_smaller(endpoint: Endpoint, held: Held | None, rates: Rates) -> list[Found]:
    """Plan an endpoint anew for its measured load: on the GPUs that it is on, then on any that it may be on.

    Both keep the targets of its class by the same planner that places orders; the second only counts what it saves
    beyond the first, and only GPUs that are free now, under the residency that was ordered.
    """
    current = placement.current_revision(endpoint)
    observation = load_of(endpoint)
    if current is None or observation is None or endpoint.wanted != Wanted.RUNNING:
        return []
    terms = with_load(OrderTerms.of(endpoint), measured_load(observation))
    market = Market.read(tenant=endpoint.tenant, besides=endpoint)
    same = dataclasses.replace(market, pools=[pool for pool in market.pools if pool.id == str(current.pool)])
    load = (
        f"Measured in {observation.hours} hours with {observation.requests:,} requests: "
        f"{figure(observation.requests_per_second)} requests/s in a busy hour, {observation.input_tokens} tokens in,"
        f" {observation.output_tokens} out."
    )
    found = []
    price, gpus = None, current.replicas * current.gpus_per_replica
    smaller = _planned(endpoint, terms, same)
    if smaller is not None:
        before, chosen = smaller
        price = before
        if chosen.price_per_hour <= before * (1 - LEAST_SAVED) and chosen.gpus < gpus:
            price = chosen.price_per_hour
            found.append(_smaller(endpoint, held, current, before, chosen, load))
    cheaper = _planned(endpoint, terms, market)
    if cheaper is not None:
        before, chosen = cheaper
        base = before if price is None else price
        if chosen.gpu != current.gpu_type and chosen.price_per_hour <= base * (1 - LEAST_SAVED):
            found.append(_cheaper(endpoint, held, current, base, chosen, load, rates))
    return found


def _planned(endpoint: Endpoint, terms: OrderTerms, market: Market) -> tuple[Decimal, Configuration] | None:
    """Give what an endpoint costs an hour now, and what it would run as by ``terms``; None where that has no room."""
    try:
        replan = replan_find(endpoint=endpoint, terms=terms, market=market)
    except BerthError:
        return None  # its terms fit no more, which its own page says
    chosen = replan.plan.configuration
    return None if chosen is None else (replan.price_now, chosen)


def _smaller(
    endpoint: Endpoint,
    held: Held | None,
    current: Revision,
    before: Decimal,
    chosen: Configuration,
    load: str,
) -> Found:
    gpus = current.replicas * current.gpus_per_replica
    hours = Decimal(gpus - chosen.gpus) * MONTH_HOURS
    rate = held.asset_rate if held else None
    return Found(
        kind=Saving.Kind.OVERSIZED,
        what=f"Its load needs {_gpus(chosen)} and it holds {_shape(current)}.",
        amount=(before - chosen.price_per_hour) * MONTH_HOURS,
        gpu_hours=hours,
        asset_amount=None if rate is None else hours * rate,
        asset_currency=held.asset_currency if held and rate is not None else "",
        how=(load, _kept(endpoint, chosen), _prices(endpoint, before, chosen)),
    )


def _cheaper(
    endpoint: Endpoint,
    held: Held | None,
    current: Revision,
    before: Decimal,
    chosen: Configuration,
    load: str,
    rates: Rates,
) -> Found:
    gpus = current.replicas * current.gpus_per_replica
    old, new = (held.asset_rate if held else None), rates.of(chosen.cluster, chosen.gpu)
    known = old is not None and new is not None and held is not None and new[1] == held.asset_currency
    return Found(
        kind=Saving.Kind.CHEAPER_GPU,
        what=f"{_gpus(chosen)} in {chosen.cluster} keep its targets, too, and are free; it holds {_shape(current)}.",
        amount=(before - chosen.price_per_hour) * MONTH_HOURS,
        gpu_hours=Decimal(gpus - chosen.gpus) * MONTH_HOURS,
        asset_amount=(old * gpus - new[0] * chosen.gpus) * MONTH_HOURS if known and old and new else None,
        asset_currency=held.asset_currency if known and held else "",
        how=(
            load,
            f"Its residency, {endpoint.residency}, allows {chosen.cluster} in {chosen.region}.",
            _kept(endpoint, chosen),
            _prices(endpoint, before, chosen),
        ),
    )


class Rates:
    """What an hour of a GPU cost its owner in the window, by cluster and GPU type; one query."""

    def __init__(self, *, until: dt.date) -> None:
        first = dt.datetime.combine(until - WINDOW_DAYS * DAY, dt.time(), tzinfo=dt.UTC)
        rows = ClusterDay.objects.filter(bucket__gte=first).exclude(currency="")
        sums = (
            rows.values("cluster", "gpu_type", "currency")
            .order_by()
            .annotate(seen=Sum("seen"), sum=Sum("cost"))
        )
        self._known: Mapping[tuple[str, str], tuple[Decimal, str]] = {
            (row["cluster"], row["gpu_type"]): (row["sum"] / row["seen"] * _HOUR_S, row["currency"])
            for row in sums
            if row["seen"]
        }

    def of(self, cluster: str, gpu_type: str) -> tuple[Decimal, str] | None:
        """Give the rate with its currency, None where none is known."""
        return self._known.get((cluster, gpu_type))


def _gpus(chosen: Configuration) -> str:
    return f"{chosen.replicas} x {chosen.gpus_per_replica} {chosen.gpu}"


def _shape(current: Revision) -> str:
    return f"{current.replicas} x {current.gpus_per_replica} {current.gpu_type}"


def _kept(endpoint: Endpoint, chosen: Configuration) -> str:
    targets = [
        f"{name} p95 {time:,.0f} ms of {target:,} ms"
        for name, time, target in (
            ("first token", chosen.ttft_p95_ms, endpoint.slo_class.ttft_p95_ms),
            ("between tokens", chosen.itl_p95_ms, endpoint.slo_class.itl_p95_ms),
        )
        if target is not None
    ]
    kept = "; ".join(targets) if targets else "the class has no latency target"
    return f"Planned as orders are, for the class {endpoint.slo_class.title}: {kept}; {chosen.utilisation:.0%} busy."


def _prices(endpoint: Endpoint, before: Decimal, chosen: Configuration) -> str:
    currency = endpoint.tenant.currency
    return (
        f"{before:.4f} {currency} an hour now, {chosen.price_per_hour:.4f} {currency} then;"
        f" times {MONTH_HOURS} hours."
    )
