"""A statement's lines as CSV."""

from __future__ import annotations

import csv
import io

from billing.costs import Names
from billing.models import Statement


def statement_csv(statement: Statement) -> str:
    """Give the statement's lines as CSV (RFC 4180), one header row, in their order.

    Text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    projects = Names()
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(
        ["month", "project", "endpoint", "sku", "description", "basis", "charged", "quantity", "unit",
         "unit_price", "amount", "currency"]
    )  # fmt: skip
    for line in statement.lines.all():
        texts = (projects.project(line.project_id), line.endpoint_name, line.sku, line.description)
        rows.writerow(
            [f"{statement.month:%Y-%m}", *map(_harmless, texts), line.basis, "yes" if line.charged else "no",
             f"{line.quantity:f}", line.unit, f"{line.unit_price:f}", f"{line.amount:f}", statement.currency]
        )  # fmt: skip
    return out.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
