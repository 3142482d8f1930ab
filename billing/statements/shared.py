"""Endpoints that are sold by the token: when they were, and how the cost of their GPU time splits between their users.

An endpoint counts as shared in every UTC hour that one of its shared periods touches. In those hours everybody, the
owner included, is charged for tokens, and the owner's GPU time is shown beside, not charged. The GPU time of the hours
in which somebody asked for it is split over the owner's month by use, tokens at the list's prices as weights; idle
hours are nobody's share. Shares are rounded by largest remainder, so that they sum to the cost.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import math
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable
from fractions import Fraction
from typing import Final

from billing import quantities
from billing.charging import rate_held
from billing.models import SharedPeriod
from billing.prices import price_books
from billing.quantities import Interval
from billing.rating.charges import Tokens, shown
from billing.rating.periods import month_of
from billing.rating.prices import PriceBook, PriceKind
from billing.rating.rounding import share_out
from billing.statements.gpu_time import pieces, union, whole_hours
from billing.statements.inputs import Endpoint, HeldTime, SharedTime
from billing.statements.lines import AMOUNT_PLACES
from billing.statements.tariffs import Rates
from billing.statements.windows import Window, allocated, busy_hours, gpu_cuts, token_cuts
from tenants.models import Tenant

SECONDS_PLACES: Final = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Sold:
    owner_id: uuid.UUID
    endpoint: Endpoint
    hours: tuple[Interval, ...]


_Whose = tuple[uuid.UUID, uuid.UUID]  # tenant and project


class Shares:
    """What was shared when, read once for a run, with the splits that its statements ask for, made when asked.

    Call it in the platform's scope: a split reads the use of all tenants. ``now`` bounds what is held still.
    """

    def __init__(self, now: dt.datetime) -> None:
        self._now = now
        self._sold = _read_sold()
        self._busy: dict[tuple[dt.datetime, dt.datetime], dict[uuid.UUID, tuple[Interval, ...]]] = {}
        self._splits: dict[tuple[dt.date, str], dict[uuid.UUID, list[SharedTime]]] = {}
        self._owners: dict[uuid.UUID, str] | None = None
        self.endpoints = {endpoint_id: sold.endpoint for endpoint_id, sold in self._sold.items()}

    def hours(self, endpoint_id: uuid.UUID) -> tuple[Interval, ...]:
        """Give the hours in which the endpoint was shared, merged."""
        return self._sold[endpoint_id].hours

    def sells(self, endpoint_id: uuid.UUID, tenant_id: uuid.UUID, hour: dt.datetime) -> bool:
        """Say whether a tenant's tokens of an hour are charged: always another's, the owner's while it is shared."""
        sold = self._sold.get(endpoint_id)
        if sold is None:
            return False
        return sold.owner_id != tenant_id or any(start <= hour < end for start, end in sold.hours)

    def bounds_of(self, tenant_ids: Collection[uuid.UUID]) -> set[dt.datetime]:
        """Give the moments at which endpoints of these tenants began or ceased to be shared."""
        owners = set(tenant_ids)
        return {
            moment
            for sold in self._sold.values()
            if sold.owner_id in owners
            for interval in sold.hours
            for moment in interval
        }

    def busy(self, endpoint_id: uuid.UUID, window: Window) -> tuple[Interval, ...]:
        """Give the hours of the window in which anybody asked for the endpoint, merged."""
        bounds = (window.start, window.end)
        if bounds not in self._busy:
            self._busy[bounds] = busy_hours(window, self._sold)
        return self._busy[bounds].get(endpoint_id, ())

    def of(self, tenant_id: uuid.UUID, currency: str, window: Window) -> list[SharedTime]:
        """Give the tenant's shares of the GPU time of shared endpoints in a month."""
        if not self._sold:
            return []
        key = (window.month, currency)
        if key not in self._splits:
            self._splits[key] = self._split(window.month, currency)
        return self._splits[key].get(tenant_id, [])

    def only(self, tenant_ids: Collection[uuid.UUID], currency: str, window: Window) -> Shares:
        """Give what statements of these tenants in one window ask for, for a process of its own."""
        part = copy.copy(self)
        part._splits = {
            (window.month, currency): {each: self.of(each, currency, window) for each in tenant_ids}
        }
        return part

    def _split(self, month: dt.date, currency: str) -> dict[uuid.UUID, list[SharedTime]]:
        book = price_books(currency, [])[None]
        by_window: defaultdict[Window, list[uuid.UUID]] = defaultdict(list)
        for endpoint_id, sold in self._sold.items():
            period = month_of(month.year, month.month, self._zone_of(sold.owner_id))
            until = min(period.end, self._now)
            if any(start < until and end > period.start for start, end in sold.hours):
                window = Window(month=month, start=period.start, end=period.end, until=until)
                by_window[window].append(endpoint_id)
        found: defaultdict[uuid.UUID, list[SharedTime]] = defaultdict(list)
        for window, endpoint_ids in by_window.items():
            weights = self._weights(window, endpoint_ids, book)
            for endpoint_id, held in self._costs(window, endpoint_ids, book).items():
                for tenant_id, share in _shared_out(window, endpoint_id, held, weights[endpoint_id], book):
                    found[tenant_id].append(share)
        for shares in found.values():
            shares.sort(
                key=lambda each: (str(each.endpoint_id), each.gpu_type, each.region, str(each.project_id))
            )
        return found

    def _zone_of(self, owner_id: uuid.UUID) -> str:
        if self._owners is None:
            owners = {sold.owner_id for sold in self._sold.values()}
            self._owners = dict(Tenant.objects.filter(id__in=owners).values_list("id", "time_zone"))
        return self._owners[owner_id]

    def _costs(
        self, window: Window, endpoint_ids: Collection[uuid.UUID], book: PriceBook
    ) -> dict[uuid.UUID, list[HeldTime]]:
        wanted = set(endpoint_ids)
        owners = {self._sold[endpoint_id].owner_id for endpoint_id in wanted}
        parts: defaultdict[uuid.UUID, list] = defaultdict(list)
        for each in allocated(window, owners):
            if each.endpoint_id in wanted and each.start < each.end:
                parts[each.endpoint_id].append(each)
        return {
            endpoint_id: [
                piece
                for piece in pieces(
                    held,
                    cuts=gpu_cuts(window, book),
                    busy=self.busy(endpoint_id, window),
                    shared=self.hours(endpoint_id),
                    apart=False,
                )
                if piece.shared and not piece.idle
            ]
            for endpoint_id, held in parts.items()
        }

    def _weights(
        self, window: Window, endpoint_ids: Collection[uuid.UUID], book: PriceBook
    ) -> dict[uuid.UUID, dict[_Whose, Fraction]]:
        bounds = {moment for each in endpoint_ids for interval in self.hours(each) for moment in interval}
        priced: defaultdict[uuid.UUID, defaultdict[_Whose, Fraction]] = defaultdict(
            lambda: defaultdict(Fraction)
        )
        asked: defaultdict[uuid.UUID, defaultdict[_Whose, Fraction]] = defaultdict(
            lambda: defaultdict(Fraction)
        )
        rows = quantities.used(
            start=window.start,
            end=window.end,
            cuts=token_cuts([book]) | bounds,
            endpoint_ids=list(endpoint_ids),
        )
        rates = Rates(book)
        for row in rows:
            if not any(start <= row.start < end for start, end in self.hours(row.endpoint_id)):
                continue
            whose = (row.tenant_id, row.project_id)
            priced[row.endpoint_id][whose] += _worth(row, rates)
            asked[row.endpoint_id][whose] += row.requests
        # Where nothing has a price, requests count.
        return {
            endpoint_id: dict(
                priced[endpoint_id] if any(priced[endpoint_id].values()) else asked[endpoint_id]
            )
            for endpoint_id in endpoint_ids
        }


def _read_sold() -> dict[uuid.UUID, _Sold]:
    rows: defaultdict[uuid.UUID, list[SharedPeriod]] = defaultdict(list)
    for row in SharedPeriod.objects.order_by("started_at", "id"):
        rows[row.endpoint_id].append(row)
    far = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
    return {
        endpoint_id: _Sold(
            owner_id=periods[-1].owner_id,
            endpoint=Endpoint(
                id=endpoint_id,
                name=periods[-1].name,
                model=periods[-1].model,
                slo_class=periods[-1].slo_class,
                shared=True,
            ),
            hours=union(
                whole_hours(each.started_at, each.ended_at or far)
                for each in periods
                if each.ended_at is None or each.started_at < each.ended_at
            ),
        )
        for endpoint_id, periods in rows.items()
    }


def _worth(row: quantities.Used, rates: Rates) -> Fraction:
    tokens = Tokens.reported(prompt=row.input_tokens, completion=row.output_tokens, cached=row.cached_tokens)
    of = rates.tokens(row)
    return (
        of[PriceKind.INPUT_TOKENS].exact * tokens.input
        + of[PriceKind.OUTPUT_TOKENS].exact * tokens.output
        + of[PriceKind.CACHED_TOKENS].exact * tokens.cached
    )


def _shared_out(
    window: Window,
    endpoint_id: uuid.UUID,
    held: Iterable[HeldTime],
    weights: dict[_Whose, Fraction],
    book: PriceBook,
) -> Iterable[tuple[uuid.UUID, SharedTime]]:
    """Split each GPU type's time and cost over whoever used the endpoint; both sum to the whole."""
    whole = sum(weights.values(), Fraction(0))
    costs: defaultdict[tuple[str, str], list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for piece in held:
        sums = costs[piece.gpu_type, piece.region]
        sums[0] += Fraction(piece.gpu_seconds)
        sums[1] += rate_held(book, piece).exact
    if not whole:
        return
    by_key = {f"{tenant_id}|{project_id}": (tenant_id, project_id) for tenant_id, project_id in weights}
    common = math.lcm(*(weight.denominator for weight in weights.values()))
    parts = {
        key: weights[whose].numerator * (common // weights[whose].denominator)
        for key, whose in by_key.items()
    }
    shown_weights = {key: f"{shown(weights[whose]):f}" for key, whose in by_key.items()}
    shown_whole = f"{shown(whole):f}"
    for (gpu_type, region), (gpu_seconds, cost) in sorted(costs.items()):
        amounts = share_out(cost, parts, AMOUNT_PLACES)
        seconds = share_out(gpu_seconds, parts, SECONDS_PLACES)
        shown_cost = f"{shown(cost):f}"
        for key, (tenant_id, project_id) in by_key.items():
            yield (
                tenant_id,
                SharedTime(
                    start=window.start,
                    end=window.until,
                    project_id=project_id,
                    endpoint_id=endpoint_id,
                    gpu_type=gpu_type,
                    region=region,
                    gpu_seconds=seconds[key],
                    amount=amounts[key],
                    weight=shown_weights[key],
                    weights=shown_whole,
                    cost=shown_cost,
                ),
            )
