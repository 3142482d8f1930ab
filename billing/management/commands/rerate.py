"""Rate a month of all tenants by a price book that is tried, and print what each would pay beside what it pays.

Nothing is changed. With --csv the table goes into a file instead.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.management.commands.statement_run import month_of_option
from billing.models import Book
from billing.what_if import Rerated, month_rerated
from tenants import scope

HEADER = ("tenant", "name", "state", "number", "currency", "charged", "by_book", "difference", "percent")


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--month", required=True, metavar="YYYY-MM")
        parser.add_argument(
            "--book", required=True, metavar="NAME", help="A price book; the console lists them."
        )
        parser.add_argument("--csv", type=Path, metavar="FILE", help="Write the table there.")

    def handle(self, *args: Any, **options: Any) -> None:
        month = month_of_option(options["month"])
        with scope.platform("find a price book"):
            book = Book.objects.filter(name=options["book"]).first()
            known = list(Book.objects.values_list("name", flat=True))
        if book is None:
            raise CommandError(
                f"There is no book {options['book']!r}; known are {', '.join(known) or 'none'}."
            )
        found = month_rerated(month=month, book=book, now=timezone.now())
        if options["csv"]:
            try:
                with options["csv"].open("w", newline="") as file:
                    csv.writer(file).writerows([HEADER, *_rows(found)])
            except OSError as error:
                raise CommandError(f"{options['csv']} cannot be written: {error.strerror}.") from error
        else:
            self._print(found)
        for currency, total in found.totals.items():
            self.stdout.write(
                f"{month:%Y-%m} by {book.name}: {total.before:f} -> {total.after:f} {currency} ({total.amount:+f})"
            )
        if not found.totals:
            self.stdout.write(f"Nothing was charged in {month:%Y-%m}.")

    def _print(self, found: Rerated) -> None:
        for row in found.tenants:
            percent = "" if row.percent is None else f" ({row.percent:+f} %)"
            self.stdout.write(
                f"{row.slug:<40} {row.before:>16f} {row.after:>16f} {row.amount:>+16f} {row.currency}{percent}"
            )


def _rows(found: Rerated) -> list[tuple[str, ...]]:
    return [
        (
            row.slug, _harmless(row.name), row.state, row.number, row.currency, f"{row.before:f}", f"{row.after:f}",
            f"{row.amount:f}", "" if row.percent is None else f"{row.percent:f}",
        )
        for row in found.tenants
    ]  # fmt: skip


def _harmless(text: str) -> str:
    """Keep a spreadsheet from taking text for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
