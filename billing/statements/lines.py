"""A statement's line as plain data: what composition gives, what is stored, and what the document shows."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Context, Decimal
from typing import Any, Final

import msgspec

from billing.models import StatementLine

Kind = StatementLine.Kind
Basis = StatementLine.Basis

#: Decimal places of quantities and unit prices, and of amounts, as the database keeps them.
QUANTITY_PLACES: Final = 10
AMOUNT_PLACES: Final = 4


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of :class:`billing.models.StatementLine` that say something, in its order of fields."""

    kind: str
    basis: str
    charged: bool
    correction: bool
    service_month: dt.date
    service_start: dt.datetime
    service_end: dt.datetime
    project_id: uuid.UUID | None
    project_name: str
    cost_centre: str
    endpoint_id: uuid.UUID | None
    endpoint_name: str
    model: str
    slo_class: str
    gpu_type: str
    region: str
    sku: str
    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    list_unit_price: Decimal
    amount: Decimal
    list_amount: Decimal
    effective_amount: Decimal
    price_id: str
    commitment_id: uuid.UUID | None
    credit_id: uuid.UUID | None
    how: list[dict[str, Any]]


FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(Line))


_SCALES: Final = {
    **dict.fromkeys(("quantity", "unit_price", "list_unit_price"), Decimal(1).scaleb(-QUANTITY_PLACES)),
    **dict.fromkeys(("amount", "list_amount", "effective_amount"), Decimal(1).scaleb(-AMOUNT_PLACES)),
}


_EXACT: Final = Context(prec=60)


def stored(line: Line) -> Line:
    """Give a line whose numbers have the places that the database keeps, so that it reads back byte by byte."""
    changes = {
        name: number.quantize(scale, context=_EXACT)
        for name, scale in _SCALES.items()
        if not (number := getattr(line, name)).same_quantum(scale)
    }
    return msgspec.structs.replace(line, **changes) if changes else line


def line_of(row: StatementLine) -> Line:
    """Give a stored line as plain data."""
    return Line(**{name: getattr(row, name) for name in FIELDS})


def identity(line: Any) -> tuple[object, ...]:
    """Say what makes a line of a service month the same line on another statement of it.

    A credit for a missed target is one for each endpoint, whatever it comes to; all else is told apart by price.
    """
    what = (line.project_id, line.endpoint_id, line.kind, line.charged, line.sku)
    if line.kind == Kind.SLO_CREDIT:
        return what
    return (*what, line.region, line.price_id, line.unit_price, line.list_unit_price, line.commitment_id)
