"""FOCUS exports as files on disk."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, Protocol

from billing.documents.months import month_statement
from billing.focus.export import statement_rows, write_csv, write_parquet
from billing.focus.rows import Row
from tenants import scope
from tenants.errors import Invalid, NotFound
from tenants.models import Tenant


class Writer(Protocol):
    """Writes rows in one format and gives how many."""

    def __call__(self, rows: Iterable[Row], out: IO[bytes], *, for_validator: bool = False) -> int: ...


WRITERS: Final[dict[str, Writer]] = {".csv": write_csv, ".parquet": write_parquet}


def month_rows(tenant: Tenant, *, month: dt.date, now: dt.datetime) -> Iterator[Row]:
    """Give the FOCUS rows of a tenant's month, in its scope.

    A final statement as it is; a month that is still open as it stands at ``now``.

    Raises:
        Invalid: the month has not begun.
        NotFound: nothing was held or used in it.
    """
    with scope.tenant(tenant.id):
        rows = list(statement_rows(month_statement(month=month, now=now)))
    yield from rows  # whoever reads them stands in no scope meanwhile


def all_month_rows(tenants: Iterable[Tenant], *, month: dt.date, now: dt.datetime) -> Iterator[Row]:
    """Give the rows of several tenants, one after the other, without those in whose month nothing happened."""
    for tenant in tenants:
        with contextlib.suppress(NotFound):
            yield from month_rows(tenant, month=month, now=now)


def focus_write(*, rows: Iterable[Row], path: Path, for_validator: bool = False) -> int:
    """Write ``rows`` to ``path``, CSV or Parquet by its ending; give how many.

    The file appears whole or not at all: whoever reads it meanwhile sees the old one.

    Raises:
        Invalid: another ending, or a folder that cannot be written.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise Invalid(
            f"{path.name} ends neither in .csv nor in .parquet; name the file by the format you want."
        )
    try:
        with _whole(path) as out:
            return writer(rows, out, for_validator=for_validator)
    except OSError as error:
        raise Invalid(
            f"{path} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
        os.chmod(name, 0o644)  # as any other file, not for its writer alone
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
