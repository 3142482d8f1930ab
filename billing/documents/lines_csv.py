"""A statement's lines as CSV, for spreadsheets."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from typing import Any, Final

from billing.models import Statement, StatementLine

#: Columns and the fields of the line in them.
COLUMNS: Final = {
    "line": "position",
    "kind": "kind",
    "basis": "basis",
    "charged": "charged",
    "correction": "correction",
    "service_month": "service_month",
    "service_start": "service_start",
    "service_end": "service_end",
    "project": "project_name",
    "project_id": "project_id",
    "cost_centre": "cost_centre",
    "endpoint": "endpoint_name",
    "endpoint_id": "endpoint_id",
    "model": "model",
    "slo_class": "slo_class",
    "gpu_type": "gpu_type",
    "region": "region",
    "sku": "sku",
    "description": "description",
    "quantity": "quantity",
    "unit": "unit",
    "unit_price": "unit_price",
    "list_unit_price": "list_unit_price",
    "amount": "amount",
    "list_amount": "list_amount",
    "effective_amount": "effective_amount",
    "price_id": "price_id",
    "commitment_id": "commitment_id",
    "credit_id": "credit_id",
    "how": "how",
}


def statement_csv(statement: Statement) -> str:
    """Give the statement's lines as CSV (RFC 4180), one header row, in their order; times in UTC.

    Text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["statement", "state", "month", *COLUMNS, "currency"])
    head = [statement.number, statement.state, f"{statement.month:%Y-%m}"]
    for line in statement.lines.all():
        cells = [_cell(line, field) for field in COLUMNS.values()]
        rows.writerow([*head, *cells, statement.currency])
    return out.getvalue()


def _cell(line: StatementLine, field: str) -> str:
    value: Any = getattr(line, field)
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return f"{value:f}"
        case dt.datetime():
            return f"{value.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        case dt.date():
            return f"{value:%Y-%m}"
        case uuid.UUID() | int():
            return str(value)
        case str():
            return _harmless(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
