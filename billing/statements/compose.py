"""Inputs in, lines out: the one way in which a draft, a final statement, its replay and a what-if come about.

Nothing is read and nothing is written here. A service month is reckoned as a whole, in
:mod:`billing.statements.reckoning`. For a month that is closed already, what final statements charged for each line
is taken off, and the difference is a correction. Credits come last and never take more than there is to pay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from billing.rating.rounding import places_of
from billing.statements.inputs import Charged, Inputs, Month
from billing.statements.lines import Basis, Kind, Line, identity, stored
from billing.statements.reckoning import Reckoning, reckon
from billing.statements.tariffs import Tariff, tariff_of

#: As amounts are stored: sums of them keep their four places.
ZERO: Final = Decimal("0.0000")

#: What was charged before by identity: all that corrections compare.
_MEASURES: Final = ("quantity", "amount", "list_amount", "effective_amount")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Composed:
    """A statement's lines in order, their sums, what stands against closing it, and the prices they used."""

    lines: tuple[Line, ...]
    charges: Decimal
    credits: Decimal
    total: Decimal
    problems: tuple[str, ...]
    price_ids: frozenset[str]


def compose(inputs: Inputs, tariff: Tariff | None = None) -> Composed:
    """Make the statement of ``inputs``; ``tariff`` rates it by other prices than those it keeps.

    ``total`` is the sum of the charged lines and never negative. ``problems`` name what an operator must look at
    before such a statement may be closed: something charged without a price, or charged less than nothing.
    """
    tariff = tariff or tariff_of(inputs.prices, inputs.tenant_id)
    places = places_of(inputs.currency)
    own = reckon(inputs.month, inputs, tariff, places)
    late = [(month, reckon(month, inputs, tariff, places)) for month in inputs.late]
    lines = list(own.lines)
    for month, reckoned in late:
        lines += corrections(month, reckoned.lines)
    due = sum((line.amount for line in lines if line.charged), ZERO)
    lines += _credits(inputs, due)
    charged = [line for line in lines if line.charged]
    credits = sum((line.amount for line in charged if line.kind in (Kind.SLO_CREDIT, Kind.CREDIT)), ZERO)
    total = sum((line.amount for line in charged), ZERO)
    reckonings = [own, *(reckoned for _, reckoned in late)]
    return Composed(
        lines=tuple(map(stored, lines)),
        charges=total - credits,
        credits=credits,
        total=total,
        problems=_problems(reckonings),
        price_ids=frozenset().union(*(each.price_ids for each in reckonings)),
    )


def corrections(month: Month, reckoned: Sequence[Line]) -> list[Line]:
    """Give what a closed month comes to now less what was charged for it, line by line; nothing where they agree.

    The GPU time of shared endpoints is told once, as it was when the month was closed: nothing is charged for it.
    """
    before: dict[tuple[object, ...], list[Charged]] = {}
    for each in month.charged:
        before.setdefault(identity(each), []).append(each)
    found = []
    for line in reckoned:
        if line.kind != Kind.SHARED_GPU_TIME:
            found.append(_difference(line, before.pop(identity(line), [])))
    for gone in before.values():
        if gone[0].kind != Kind.SHARED_GPU_TIME:
            found.append(_difference(_nothing(month, gone[0]), gone))
    return [line for line in found if any(getattr(line, name) for name in _MEASURES)]


def _difference(line: Line, before: Iterable[Charged]) -> Line:
    charged = {name: sum((getattr(each, name) for each in before), ZERO) for name in _MEASURES}
    differences = {name: getattr(line, name) - was for name, was in charged.items()}
    if line.kind == Kind.SLO_CREDIT:
        differences |= {"quantity": Decimal(1), "unit_price": differences["amount"]}
        if not differences["amount"]:
            differences["quantity"] = ZERO
    return msgspec.structs.replace(
        line,
        correction=True,
        description=f"Correction of {line.service_month:%Y-%m}: {line.description}"[:200],
        how=[
            {
                "now": {name: f"{getattr(line, name):f}" for name in _MEASURES},
                "charged_before": {name: f"{was:f}" for name, was in charged.items()},
                "steps": line.how,
            }
        ],
        **differences,
    )


def _nothing(month: Month, gone: Charged) -> Line:
    names = set(gone.__struct_fields__) - set(_MEASURES)
    return Line(
        **{name: getattr(gone, name) for name in names},
        **dict.fromkeys(_MEASURES, ZERO),
        correction=True,
        service_month=month.month,
        credit_id=None,
        how=[],
    )


def _credits(inputs: Inputs, due: Decimal) -> list[Line]:
    """Take what was carried forward, then granted credits, oldest expiry first; carry on what is below zero."""
    if due < 0:
        return [
            _credit(
                inputs,
                -due,
                sku="carried-forward",
                description="In your favour, taken off the next statement",
                how=[{"corrections_beyond_charges": f"{due:f}"}],
            )
        ]
    lines = []
    carried = min(inputs.carried, due)
    if carried > 0:
        due -= carried
        lines.append(
            _credit(
                inputs,
                -carried,
                sku="carried-forward",
                description="Carried forward from earlier statements",
                how=[{"carried": f"{inputs.carried:f}", "taken": f"{carried:f}"}],
            )
        )
    for credit in inputs.credits:
        taken = min(credit.left, due)
        if taken <= 0:
            continue
        due -= taken
        line = _credit(
            inputs,
            -taken,
            sku="credit",
            description=f"Credit: {credit.reason}"[:200],
            how=[{"left": f"{credit.left:f}", "taken": f"{taken:f}"}],
        )
        lines.append(msgspec.structs.replace(line, credit_id=credit.id))
    return lines


def _credit(
    inputs: Inputs, amount: Decimal, *, sku: str, description: str, how: list[dict[str, object]]
) -> Line:
    month = inputs.month
    return Line(
        kind=Kind.CREDIT.value,
        basis=Basis.ALLOCATION.value,
        charged=True,
        correction=False,
        service_month=month.month,
        service_start=month.start,
        service_end=month.end,
        project_id=None,
        project_name="",
        cost_centre="",
        endpoint_id=None,
        endpoint_name="",
        model="",
        slo_class="",
        gpu_type="",
        region="",
        sku=sku,
        description=description,
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
        how=how,
    )


def _problems(reckonings: Iterable[Reckoning]) -> tuple[str, ...]:
    found = set()
    for each in reckonings:
        found |= {
            f"{missing} in {each.month:%Y-%m}: add one, or accept that it is free" for missing in each.missing
        }
        found |= {
            f"{line.sku} of {line.endpoint_name or 'the tenant'} comes to {line.amount:f} in {each.month:%Y-%m}: "
            "find out what made it negative"
            for line in each.lines
            if line.kind != Kind.SLO_CREDIT and (line.amount < 0 or line.quantity < 0)
        }
    return tuple(sorted(found))
