"""What one service month comes to: quantities laid under prices, commitments over them, one rounding at the line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from billing.rating.charges import Tokens, shown
from billing.rating.commitments import Commitment, Holding, cover
from billing.rating.prices import PriceKind
from billing.rating.rounding import round_amount, round_lines
from billing.statements.attainment import missed_targets
from billing.statements.inputs import Committed, Endpoint, HeldTime, Inputs, Month, Project, UsedTokens
from billing.statements.lines import AMOUNT_PLACES, QUANTITY_PLACES, Basis, Kind, Line
from billing.statements.tariffs import Rate, Tariff

HOUR_SECONDS: Final = 3600
_WORDS: Final = {
    PriceKind.INPUT_TOKENS: "Input tokens",
    PriceKind.OUTPUT_TOKENS: "Output tokens",
    PriceKind.CACHED_TOKENS: "Cached input tokens",
}
_NO_PRICE: Final = " (no price was set)"
_RANK: Final = {kind: rank for rank, kind in enumerate(Kind.values)}
_ZERO: Final = Fraction(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reckoning:
    """A month's lines, the prices that are missing for what is charged, and the ids of those that were used."""

    month: dt.date
    lines: tuple[Line, ...]
    missing: frozenset[str]
    price_ids: frozenset[str]


@dataclasses.dataclass(slots=True)
class _Sum:
    """What lines of one identity add up to before the rounding. ``rate`` and ``list_rate`` are of one unit."""

    kind: Kind
    charged: bool
    project_id: uuid.UUID | None
    endpoint_id: uuid.UUID | None
    sku: str
    words: str
    start: dt.datetime
    end: dt.datetime
    rate: Rate | None
    list_rate: Rate | None
    unit: str = "GPU-hour"
    per: int = HOUR_SECONDS
    model: str = ""
    slo_class: str = ""
    gpu_type: str = ""
    region: str = ""
    by: Committed | None = None
    quantity: Fraction | Decimal = Decimal(0)
    whole: Fraction = _ZERO
    exact: Fraction = _ZERO
    at_list: Fraction = _ZERO
    effective: Fraction = _ZERO

    @property
    def order(self) -> tuple[object, ...]:
        """A key that does not change with what things are called, for the rounding."""
        own, at_list = _keys(self.rate), _keys(self.list_rate)
        return (
            self.project_id.int if self.project_id else -1, self.endpoint_id.int if self.endpoint_id else -1,
            _RANK[self.kind], self.sku, self.model, self.slo_class, self.region, self.start, own, at_list[1:],
            str(self.by.id) if self.by else "", self.charged,
        )  # fmt: skip

    def settle(self) -> None:
        """Set the exact amounts once the quantity is whole: nothing for what a commitment covers, its share apart."""
        quantity = self.whole = Fraction(self.quantity)
        self.at_list = quantity * self.list_rate.exact if self.list_rate else _ZERO
        if self.by:
            self.effective = quantity * Fraction(self.by.rate) / self.per
            if self.kind == Kind.COMMITMENT:
                self.exact = self.at_list = self.effective
        elif self.rate:
            same = self.list_rate is self.rate
            self.exact = self.effective = self.at_list if same else quantity * self.rate.exact


def _keys(rate: Rate | None) -> tuple[str, Decimal, Decimal]:
    step = rate.step if rate else None
    return (step.price_id, step.unit_price, step.factor) if step else ("", Decimal(0), Decimal(0))


class _Sums:
    """The sums of a month, by what makes a line."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._differ = tariff.own is not tariff.listed
        self.by_line: dict[tuple, _Sum] = {}
        self.price_ids: set[str] = set()
        self.missing: set[str] = set()

    def held(
        self,
        row: HeldTime,
        quantity: Fraction | Decimal,
        start: dt.datetime,
        end: dt.datetime,
        by: Committed | None = None,
    ) -> None:
        """Add GPU time at the price of the GPU; what is covered ``by`` a commitment is not charged again."""
        listed = self._tariff.listed.gpu_time(row)
        rate = None if by else self._tariff.own.gpu_time(row) if self._differ else listed
        kind = Kind.IDLE_GPU_TIME if row.idle else Kind.GPU_TIME
        key = (
            kind, row.shared, row.project_id, row.endpoint_id, row.gpu_type, row.region,
            rate.identity if rate else (), listed.amount, by.id if by else None,
        )  # fmt: skip
        found = self.by_line.get(key)
        if found is None:
            self._note(rate, listed, charged=not row.shared)
            found = self.by_line[key] = _Sum(
                kind=kind,
                charged=not row.shared,
                project_id=row.project_id,
                endpoint_id=row.endpoint_id,
                sku=f"{'idle-' if row.idle else ''}gpu-hours:{row.gpu_type}:{row.region}",
                words=f"{'Idle ' if row.idle else ''}GPU-hours, {row.gpu_type}, {row.region}"
                + (f", covered by {by.name}" if by else "")
                + (", shared by the token" if row.shared else ""),
                start=start,
                end=end,
                gpu_type=row.gpu_type,
                region=row.region,
                rate=rate,
                list_rate=listed,
                by=by,
            )
        self._add(found, quantity, start, end)

    def used(self, row: UsedTokens) -> None:
        """Add tokens at the price book; each token counts once, those from a cache apart."""
        at_list = self._tariff.listed.tokens(row)
        rates = self._tariff.own.tokens(row) if self._differ else at_list
        tokens = Tokens.reported(
            prompt=row.input_tokens, completion=row.output_tokens, cached=row.cached_tokens
        )
        for kind, count in (
            (PriceKind.INPUT_TOKENS, tokens.input),
            (PriceKind.OUTPUT_TOKENS, tokens.output),
            (PriceKind.CACHED_TOKENS, tokens.cached),
        ):
            if count:
                self._used(row, rates[kind], at_list[kind], count)

    def _used(self, row: UsedTokens, rate: Rate, listed: Rate, count: int) -> None:
        key = (
            row.charged, row.project_id, row.endpoint_id, rate.kind, row.model, row.slo_class, row.region,
            rate.identity, listed.amount,
        )  # fmt: skip
        found = self.by_line.get(key)
        if found is None:
            self._note(rate, listed, charged=row.charged)
            found = self.by_line[key] = _Sum(
                kind=Kind.TOKENS,
                charged=row.charged,
                project_id=row.project_id,
                endpoint_id=row.endpoint_id,
                sku=f"{rate.kind.replace('_', '-')}:{row.model}:{row.slo_class}",
                words=f"{_WORDS[rate.kind]}, {row.model}, {row.slo_class}",
                start=row.start,
                end=row.end,
                unit="million tokens",
                per=rate.kind.per,
                model=row.model,
                slo_class=row.slo_class,
                region=row.region,
                rate=rate,
                list_rate=listed,
            )
        self._add(found, Decimal(count), row.start, row.end)

    def commitment(self, by: Committed, start: dt.datetime, end: dt.datetime) -> None:
        """Add what a commitment costs from ``start`` to ``end``, held or not."""
        microseconds = by.gpus * ((end - start) // dt.timedelta(microseconds=1))
        self.by_line[Kind.COMMITMENT, by.id] = _Sum(
            kind=Kind.COMMITMENT,
            charged=True,
            project_id=None,
            endpoint_id=None,
            sku=f"commitment:{by.gpu_type}:{by.region or 'any'}",
            words=f"{by.name}: {by.gpus} x {by.gpu_type}, {by.region or 'any region'}, held or not",
            start=start,
            end=end,
            gpu_type=by.gpu_type,
            region=by.region,
            rate=None,
            list_rate=None,
            by=by,
            quantity=Decimal(microseconds).scaleb(-6),
        )

    def _note(self, rate: Rate | None, listed: Rate, *, charged: bool) -> None:
        self.price_ids |= {each.step.price_id for each in (rate, listed) if each and each.step}
        if charged and rate and rate.missing:
            self.missing.add(rate.missing)

    def _add(self, found: _Sum, quantity: Fraction | Decimal, start: dt.datetime, end: dt.datetime) -> None:
        if isinstance(quantity, Fraction) or isinstance(found.quantity, Fraction):
            found.quantity = Fraction(found.quantity) + Fraction(quantity)
        else:
            found.quantity += quantity
        found.start, found.end = min(found.start, start), max(found.end, end)


def reckon(month: Month, inputs: Inputs, tariff: Tariff, places: int) -> Reckoning:
    """Rate all that happened in a month. The charged lines sum to their exact sum, rounded once to ``places``."""
    sums = _Sums(tariff)
    _lay_commitments(sums, month)
    for row in month.used:
        sums.used(row)
    found = sorted(sums.by_line.values(), key=lambda each: each.order)
    for each in found:
        each.settle()
    names = _Names(inputs.projects, inputs.endpoints)
    rounded = round_lines(
        {f"{place:09d}": each.exact for place, each in enumerate(found) if each.charged}, places
    )
    rows = [
        (each, _line(each, month, names, rounded.get(f"{place:09d}"), places))
        for place, each in enumerate(found)
    ]
    lines = [*_balance_commitments(rows), *_shares(month, names)]
    lines += _slo_credits(month, names, lines, places)
    return Reckoning(
        month=month.month,
        lines=tuple(sorted(lines, key=_place)),
        missing=frozenset(sums.missing),
        price_ids=frozenset(sums.price_ids),
    )


def _lay_commitments(sums: _Sums, month: Month) -> None:
    if not month.commitments:
        for row in month.held:
            sums.held(row, row.gpu_seconds, row.start, row.end)
        return
    by_id = {str(each.id): each for each in month.commitments}
    # Shared GPU time is not charged, so what is committed is not spent on it.
    for row in month.held:
        if row.shared:
            sums.held(row, row.gpu_seconds, row.start, row.end)
    rows = [row for row in month.held if not row.shared]
    coverage = cover(
        [
            Holding(key=f"{place:09d}", gpu_type=row.gpu_type, region=row.region, gpus=row.gpus,
                    start=row.start, end=row.end)
            for place, row in enumerate(rows)
        ],
        [
            Commitment(id=str(each.id), gpu_type=each.gpu_type, region=each.region or None, gpus=each.gpus,
                       rate=each.rate, start=each.starts_at, end=each.ends_at)
            for each in month.commitments
        ],
        month.start,
        month.until,
    )  # fmt: skip
    for each in coverage.covered:
        row = rows[int(str(each.key))]
        sums.held(row, each.gpu_seconds, each.start, each.end, by_id[each.commitment_id])
    for over in coverage.overflow:
        sums.held(rows[int(str(over.key))], over.gpu_seconds, over.start, over.end)
    for commitment in month.commitments:
        start, end = max(month.start, commitment.starts_at), min(month.until, commitment.ends_at)
        if start < end:
            sums.commitment(commitment, start, end)


class _Names:
    """What projects and endpoints were called."""

    def __init__(self, projects: Iterable[Project], endpoints: Iterable[Endpoint]) -> None:
        self._projects = {project.id: project for project in projects}
        self._endpoints = {endpoint.id: endpoint for endpoint in endpoints}

    def of(self, project_id: uuid.UUID | None, endpoint_id: uuid.UUID | None) -> dict[str, Any]:
        project = self._projects.get(project_id) if project_id else None
        endpoint = self._endpoints.get(endpoint_id) if endpoint_id else None
        return {
            "project_id": project_id,
            "project_name": project.name if project else str(project_id or ""),
            "cost_centre": project.cost_centre if project else "",
            "endpoint_id": endpoint_id,
            "endpoint_name": endpoint.name if endpoint else str(endpoint_id or ""),
        }

    def endpoint(self, endpoint_id: uuid.UUID | None) -> Endpoint | None:
        return self._endpoints.get(endpoint_id) if endpoint_id else None


def _line(each: _Sum, month: Month, names: _Names, rounded: Decimal | None, places: int) -> Line:
    amount = rounded if rounded is not None else round_amount(each.exact, AMOUNT_PLACES)
    if each.at_list == each.exact:
        list_amount = amount
    else:
        list_amount = round_amount(each.at_list, places if each.charged else AMOUNT_PLACES)
    uncovered = amount if each.charged else Decimal(0)
    effective = round_amount(each.effective, places) if each.by else uncovered
    endpoint = names.endpoint(each.endpoint_id)
    missing = each.rate is not None and each.rate.step is None
    rate = each.by.rate if each.by and each.kind == Kind.COMMITMENT else None
    own, at_list = (priced.unit_price if priced else Decimal(0) for priced in (each.rate, each.list_rate))
    return Line(
        kind=each.kind.value,
        basis=(Basis.USAGE if each.kind == Kind.TOKENS else Basis.ALLOCATION).value,
        charged=each.charged,
        correction=False,
        service_month=month.month,
        service_start=each.start,
        service_end=each.end,
        **names.of(each.project_id, each.endpoint_id),
        model=each.model or (endpoint.model if endpoint else ""),
        slo_class=each.slo_class or (endpoint.slo_class if endpoint else ""),
        gpu_type=each.gpu_type,
        region=each.region,
        sku=each.sku,
        description=(each.words + (_NO_PRICE if missing else ""))[:200],
        quantity=shown(each.whole / each.per, QUANTITY_PLACES),
        unit=each.unit,
        unit_price=own if rate is None else rate,
        list_unit_price=at_list if rate is None else rate,
        amount=amount,
        list_amount=list_amount,
        effective_amount=effective,
        price_id=_keys(each.rate)[0],
        commitment_id=each.by.id if each.by else None,
        credit_id=None,
        how=[_how(each)],
    )


def _how(each: _Sum) -> dict[str, Any]:
    if each.by:
        return {
            "commitment": str(each.by.id),
            "unit": "gpu_second",
            "quantity": f"{shown(each.whole):f}",
            "rate": f"{each.by.rate:f}",
            "per": each.per,
            "product": f"{shown(each.effective):f}",
            "start": each.start.isoformat(),
            "end": each.end.isoformat(),
        }
    if each.rate is None or each.rate.step is None:
        return {"missing": each.rate.missing if each.rate else ""}
    step = each.rate.step
    quantity = each.quantity if isinstance(each.quantity, Decimal) else shown(each.quantity)
    return {
        "price": step.price_id,
        "unit": step.unit,
        "quantity": f"{quantity:f}",
        "unit_price": f"{step.unit_price:f}",
        "per": step.per,
        "factor": f"{step.factor:f}",
        "product": f"{shown(each.exact):f}",
        "start": each.start.isoformat(),
        "end": each.end.isoformat(),
    }


def _balance_commitments(rows: Sequence[tuple[_Sum, Line]]) -> list[Line]:
    """Let effective amounts sum to what is charged: a commitment's own line keeps what nothing was covered by."""
    spread: defaultdict[uuid.UUID, Decimal] = defaultdict(Decimal)
    for each, line in rows:
        if each.by and each.kind != Kind.COMMITMENT:
            spread[each.by.id] += line.effective_amount
    lines = []
    for each, line in rows:
        if each.by and each.kind == Kind.COMMITMENT and each.by.id in spread:
            left = line.amount - spread[each.by.id]
            lines.append(msgspec.structs.replace(line, effective_amount=left))
        else:
            lines.append(line)
    return lines


def _shares(month: Month, names: _Names) -> list[Line]:
    return [
        Line(
            kind=Kind.SHARED_GPU_TIME.value,
            basis=Basis.ALLOCATION.value,
            charged=False,
            correction=False,
            service_month=month.month,
            service_start=each.start,
            service_end=each.end,
            **names.of(each.project_id, each.endpoint_id),
            model=endpoint.model if (endpoint := names.endpoint(each.endpoint_id)) else "",
            slo_class=endpoint.slo_class if endpoint else "",
            gpu_type=each.gpu_type,
            region=each.region,
            sku=f"shared-gpu-hours:{each.gpu_type}:{each.region}",
            description=f"Share by use of shared GPU-hours, {each.gpu_type}, {each.region}",
            quantity=shown(Fraction(each.gpu_seconds) / HOUR_SECONDS, QUANTITY_PLACES),
            unit="GPU-hour",
            unit_price=Decimal(0),
            list_unit_price=Decimal(0),
            amount=each.amount,
            list_amount=each.amount,
            effective_amount=Decimal(0),
            price_id="",
            commitment_id=None,
            credit_id=None,
            how=[{"cost": each.cost, "weight": each.weight, "weights": each.weights}],
        )
        for each in month.shares
    ]


def _slo_credits(month: Month, names: _Names, lines: Sequence[Line], places: int) -> list[Line]:
    """Give back a part of what each endpoint cost whose month missed a target of its class."""
    credits = []
    for attained in month.attained:
        missed = missed_targets(attained)
        of_endpoint = [line for line in lines if line.charged and line.endpoint_id == attained.endpoint_id]
        base = sum((line.effective_amount for line in of_endpoint), Decimal(0))
        percent = min(attained.credit_percent, Decimal(100))
        amount = -round_amount(Fraction(base) * Fraction(percent) / 100, places)
        if not missed or not amount:
            continue
        credits.append(
            Line(
                kind=Kind.SLO_CREDIT.value,
                basis=of_endpoint[0].basis,
                charged=True,
                correction=False,
                service_month=month.month,
                service_start=month.start,
                service_end=month.end,
                **names.of(attained.project_id, attained.endpoint_id),
                model=of_endpoint[0].model,
                slo_class=attained.slo_class,
                gpu_type="",
                region="",
                sku=f"slo-credit:{attained.slo_class}",
                description=f"{percent.normalize():f} % back: " + "; ".join(missed),
                quantity=Decimal(1),
                unit="credit",
                unit_price=amount,
                list_unit_price=amount,
                amount=amount,
                list_amount=amount,
                effective_amount=amount,
                price_id="",
                commitment_id=None,
                credit_id=None,
                how=[{"of": f"{base:f}", "percent": f"{percent:f}", "missed": missed}],
            )
        )
    return credits


def _place(line: Line) -> tuple:
    """Projects and their endpoints by name, what is of the whole tenant last; within, kinds in their order."""
    return (
        line.project_id is None, line.project_name, line.endpoint_name, str(line.project_id), str(line.endpoint_id),
        _RANK[Kind(line.kind)], line.sku, line.region, line.service_start, line.price_id, line.unit_price,
        str(line.commitment_id), not line.charged,
    )  # fmt: skip
