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

from billing.charging import Rated, rate_held, rate_used
from billing.rating.charges import Step, shown
from billing.rating.commitments import Commitment, Holding, cover
from billing.rating.prices import PriceKind
from billing.rating.rounding import round_amount, round_lines
from billing.statements.attainment import missed_targets
from billing.statements.inputs import Committed, Endpoint, HeldTime, Inputs, Month, Project, UsedTokens
from billing.statements.lines import AMOUNT_PLACES, QUANTITY_PLACES, Basis, Kind, Line
from billing.statements.tariffs import Tariff

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
    """What lines of one identity add up to before the rounding."""

    kind: Kind
    charged: bool
    project_id: uuid.UUID | None
    endpoint_id: uuid.UUID | None
    sku: str
    words: str
    start: dt.datetime
    end: dt.datetime
    unit: str = "GPU-hour"
    per: int = HOUR_SECONDS
    model: str = ""
    slo_class: str = ""
    gpu_type: str = ""
    region: str = ""
    step: Step | None = None
    list_step: Step | None = None
    missing: str = ""
    commitment_id: uuid.UUID | None = None
    rate: Decimal = Decimal(0)
    quantity: Fraction | Decimal = Decimal(0)

    @property
    def order(self) -> str:
        """A key that does not change with what things are called, for the rounding."""
        step, at_list = self.step, self.list_step
        parts = (
            self.project_id, self.endpoint_id, _RANK[self.kind], self.sku, self.model, self.slo_class, self.region,
            self.start.isoformat(), step.price_id if step else "", step.factor if step else "",
            at_list.unit_price if at_list else "", at_list.factor if at_list else "", self.commitment_id or "",
        )  # fmt: skip
        return "|".join(map(str, parts))

    @property
    def exact(self) -> Fraction:
        """Quantity x price, exact; 0 for what a commitment covers."""
        if self.commitment_id:
            return self.effective if self.kind == Kind.COMMITMENT else _ZERO
        return self._at(self.step)

    @property
    def at_list(self) -> Fraction:
        """Quantity x list price, exact."""
        return self.exact if self.kind == Kind.COMMITMENT else self._at(self.list_step or self.step)

    @property
    def effective(self) -> Fraction:
        """What it cost: its share of the commitment where one covers it."""
        if self.commitment_id:
            return Fraction(self.quantity) * Fraction(self.rate) / self.per
        return self.exact

    def _at(self, step: Step | None) -> Fraction:
        if step is None:
            return _ZERO
        return Fraction(self.quantity) * Fraction(step.unit_price) * Fraction(step.factor) / step.per


class _Sums:
    """The sums of a month, by what makes a line."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._differ = tariff.own is not tariff.listed
        self.by_line: dict[tuple, _Sum] = {}
        self.price_ids: set[str] = set()
        self.missing: set[str] = set()

    def held(self, row: HeldTime, quantity: Fraction | Decimal, start: dt.datetime, end: dt.datetime) -> None:
        """Add GPU time at the price of the GPU."""
        rated = rate_held(self._tariff.own, row)
        listed = rate_held(self._tariff.listed, row) if self._differ else rated
        self._held(row, rated, listed, quantity, start, end)

    def covered(
        self, row: HeldTime, by: Committed, quantity: Fraction, start: dt.datetime, end: dt.datetime
    ) -> None:
        """Add GPU time that a commitment covers: it is not charged again."""
        listed = rate_held(self._tariff.listed, row)
        self._held(row, None, listed, quantity, start, end, by)

    def _held(
        self,
        row: HeldTime,
        rated: Rated | None,
        listed: Rated,
        quantity: Fraction | Decimal,
        start: dt.datetime,
        end: dt.datetime,
        by: Committed | None = None,
    ) -> None:
        step = rated.step if rated else None
        self._note(rated, listed, charged=not row.shared)
        kind = Kind.IDLE_GPU_TIME if row.idle else Kind.GPU_TIME
        key = (
            kind, row.shared, row.project_id, row.endpoint_id, row.gpu_type, row.region,
            (step.price_id, step.factor) if step else "",
            (listed.step.unit_price, listed.step.factor) if listed.step else "", by.id if by else None,
        )  # fmt: skip
        found = self.by_line.get(key)
        if found is None:
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
                step=step,
                list_step=listed.step,
                missing=rated.missing if rated else "",
                commitment_id=by.id if by else None,
                rate=by.rate if by else Decimal(0),
            )
        self._add(found, quantity, start, end)

    def used(self, row: UsedTokens) -> None:
        """Add tokens at the price book."""
        listed = list(rate_used(self._tariff.listed, row)) if self._differ else []
        for place, rated in enumerate(rate_used(self._tariff.own, row)):
            at_list = listed[place] if listed else rated
            self._note(rated, at_list, charged=row.charged)
            step = rated.step
            key = (
                Kind.TOKENS, row.charged, row.project_id, row.endpoint_id, rated.kind, row.model, row.slo_class,
                row.region, (step.price_id, step.factor) if step else "",
                (at_list.step.unit_price, at_list.step.factor) if at_list.step else "",
            )  # fmt: skip
            found = self.by_line.get(key)
            if found is None:
                found = self.by_line[key] = _Sum(
                    kind=Kind.TOKENS,
                    charged=row.charged,
                    project_id=row.project_id,
                    endpoint_id=row.endpoint_id,
                    sku=f"{rated.kind.replace('_', '-')}:{row.model}:{row.slo_class}",
                    words=f"{_WORDS[rated.kind]}, {row.model}, {row.slo_class}",
                    start=row.start,
                    end=row.end,
                    unit="million tokens",
                    per=rated.kind.per,
                    model=row.model,
                    slo_class=row.slo_class,
                    region=row.region,
                    step=step,
                    list_step=at_list.step,
                    missing=rated.missing,
                )
            self._add(found, rated.quantity, row.start, row.end)

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
            commitment_id=by.id,
            rate=by.rate,
            quantity=Decimal(microseconds).scaleb(-6),
        )

    def _note(self, rated: Rated | None, listed: Rated, *, charged: bool) -> None:
        self.price_ids |= {each.step.price_id for each in (rated, listed) if each and each.step}
        if charged and rated and rated.missing:
            self.missing.add(rated.missing)

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
    found = list(sums.by_line.values())
    names = _Names(inputs.projects, inputs.endpoints)
    rounded = round_lines({each.order: each.exact for each in found if each.charged}, places)
    rows = [
        (each, _line(each, month, names, rounded[each.order] if each.charged else None, places))
        for each in found
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
        sums.covered(row, by_id[each.commitment_id], each.gpu_seconds, each.start, each.end)
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
    exact = each.exact
    amount = rounded if rounded is not None else round_amount(exact, AMOUNT_PLACES)
    at_list = each.at_list
    list_amount = (
        amount if at_list == exact else round_amount(at_list, places if each.charged else AMOUNT_PLACES)
    )
    effective = (
        round_amount(each.effective, places) if each.commitment_id else amount if each.charged else Decimal(0)
    )
    endpoint = names.endpoint(each.endpoint_id)
    quantity = Fraction(each.quantity) / each.per
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
        description=(each.words + (_NO_PRICE if each.missing else ""))[:200],
        quantity=shown(quantity, QUANTITY_PLACES),
        unit=each.unit,
        unit_price=_unit_price(each),
        list_unit_price=_shown_price(each.list_step or each.step)
        if each.kind != Kind.COMMITMENT
        else each.rate,
        amount=_four(amount),
        list_amount=_four(list_amount),
        effective_amount=_four(effective),
        price_id=each.step.price_id if each.step else "",
        commitment_id=each.commitment_id,
        credit_id=None,
        how=[_how(each)],
    )


def _unit_price(each: _Sum) -> Decimal:
    if each.kind == Kind.COMMITMENT:
        return shown(Fraction(each.rate), QUANTITY_PLACES)
    return _shown_price(each.step)


def _shown_price(step: Step | None) -> Decimal:
    return shown(Fraction(step.unit_price) * Fraction(step.factor), QUANTITY_PLACES) if step else Decimal(0)


def _how(each: _Sum) -> dict[str, Any]:
    if each.commitment_id:
        return {
            "commitment": str(each.commitment_id),
            "unit": "gpu_second",
            "quantity": f"{shown(Fraction(each.quantity)):f}",
            "rate": f"{each.rate:f}",
            "per": each.per,
            "product": f"{shown(each.effective):f}",
            "start": each.start.isoformat(),
            "end": each.end.isoformat(),
        }
    if each.step is None:
        return {"missing": each.missing}
    quantity = each.quantity if isinstance(each.quantity, Decimal) else shown(each.quantity)
    document = dataclasses.replace(each.step, quantity=quantity, start=each.start, end=each.end).to_document()
    return {**document, "product": f"{shown(each.exact):f}"}


def _balance_commitments(rows: Sequence[tuple[_Sum, Line]]) -> list[Line]:
    """Let effective amounts sum to what is charged: a commitment's own line keeps what nothing was covered by."""
    spread: defaultdict[uuid.UUID, Decimal] = defaultdict(Decimal)
    for each, line in rows:
        if each.commitment_id and each.kind != Kind.COMMITMENT:
            spread[each.commitment_id] += line.effective_amount
    lines = []
    for each, line in rows:
        if each.kind == Kind.COMMITMENT and each.commitment_id in spread:
            left = line.amount - spread[each.commitment_id]
            lines.append(_replaced(line, effective_amount=left))
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
            amount=_four(each.amount),
            list_amount=_four(each.amount),
            effective_amount=_four(Decimal(0)),
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
                unit_price=_four(amount),
                list_unit_price=_four(amount),
                amount=_four(amount),
                list_amount=_four(amount),
                effective_amount=_four(amount),
                price_id="",
                commitment_id=None,
                credit_id=None,
                how=[{"of": f"{base:f}", "percent": f"{percent:f}", "missed": missed}],
            )
        )
    return credits


def _replaced(line: Line, **changes: Any) -> Line:
    return Line(**{name: changes.get(name, getattr(line, name)) for name in line.__struct_fields__})


def _four(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.0001"))


def _place(line: Line) -> tuple:
    """Projects and their endpoints by name, what is of the whole tenant last; within, kinds in their order."""
    return (
        line.project_id is None, line.project_name, line.endpoint_name, str(line.project_id), str(line.endpoint_id),
        _RANK[Kind(line.kind)], line.sku, line.region, line.service_start, line.price_id, line.unit_price,
        str(line.commitment_id), not line.charged,
    )  # fmt: skip
