"""The files in which a statement can be had."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from collections.abc import Callable
from typing import IO, Final

from django.http import FileResponse

from billing.documents.lines_csv import statement_csv
from billing.documents.pdf import statement_pdf
from billing.focus.export import statement_rows, write_csv, write_parquet
from billing.models import Statement

#: What of a file is kept in memory; the rest lies on disk until it is sent.
IN_MEMORY: Final = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of file: its media type, how its name begins, what people call it, how it is written."""

    media_type: str
    prefix: str
    label: str
    write: Callable[[Statement, IO[bytes]], object]


FORMATS: Final[dict[str, Format]] = {
    "pdf": Format(
        "application/pdf", "statement", "PDF", lambda statement, out: out.write(statement_pdf(statement))
    ),
    "csv": Format(
        "text/csv; charset=utf-8",
        "statement",
        "CSV",
        lambda statement, out: out.write(statement_csv(statement).encode()),
    ),
    "focus.csv": Format(
        "text/csv; charset=utf-8",
        "focus",
        "FOCUS\N{NO-BREAK SPACE}CSV",
        lambda statement, out: write_csv(statement_rows(statement), out),
    ),
    "focus.parquet": Format(
        "application/vnd.apache.parquet",
        "focus",
        "FOCUS\N{NO-BREAK SPACE}Parquet",
        lambda statement, out: write_parquet(statement_rows(statement), out),
    ),
}


def statement_file(statement: Statement, kind: str) -> FileResponse:
    """Answer with ``statement`` as a file of one of :data:`FORMATS`, written whole while the scope is open."""
    form = FORMATS[kind]
    out = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # the response closes it
    form.write(statement, out)
    size = out.tell()
    out.seek(io.SEEK_SET)
    name = f"{form.prefix}-{statement.tenant.slug}-{statement.month:%Y-%m}.{kind.rpartition('.')[2]}"
    answer = FileResponse(out, as_attachment=True, filename=name, content_type=form.media_type)
    answer["Content-Length"] = size
    return answer
