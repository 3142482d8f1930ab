"""Tables as CSV downloads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from django.http import HttpResponse


def csv_text(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Write a table as CSV (RFC 4180).

    Text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    table = [header, *rows]  # a heading may be a name that people chose, too
    writer.writerows([[_harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in table])
    return out.getvalue()


def csv_download(name: str, text: str) -> HttpResponse:
    """Answer with CSV ``text`` as a file called ``name``."""
    answer = HttpResponse(text, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
