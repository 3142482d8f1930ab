"""Write what a month cost as a file in FOCUS 1.2, CSV or Parquet by the ending of its name.

A final statement is written as it is. A month that is still open is written as it stands, with no InvoiceId. The
BilledCost of all rows of a tenant adds up to the total of its statement.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.focus.files import focus_write, month_rows
from tenants import scope
from tenants.errors import BerthError
from tenants.models import Tenant


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--tenant", metavar="SLUG", help="whose month")
        whose.add_argument("--all-tenants", action="store_true", help="everybody's, one after the other")
        parser.add_argument("--month", metavar="YYYY-MM", required=True)
        parser.add_argument(
            "--out", metavar="FILE", type=Path, required=True, help="ends in .csv or .parquet"
        )
        parser.add_argument(
            "--for-validator",
            action="store_true",
            help="as focus-validator 1.0.0 reads it: five columns again by names of its own, and Parquet's decimals "
            "as 64-bit floats (not exact)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {"slug": options["tenant"]} if options["tenant"] else {}
        with scope.platform("find the tenants of a FOCUS export"):
            tenants = list(Tenant.objects.filter(**wanted).order_by("slug"))
        if wanted and not tenants:
            raise CommandError(
                f"There is no tenant {options['tenant']}; the console's page Tenants lists them."
            )
        rows = month_rows(tenants=tenants, month=_month(options["month"]), now=timezone.now())
        try:
            count = focus_write(rows=rows, path=options["out"], for_validator=options["for_validator"])
        except BerthError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{options['out']}: {count} rows in FOCUS 1.2")


def _month(text: str) -> dt.date:
    if not re.fullmatch(r"[2-9]\d{3}-(0[1-9]|1[0-2])", text):
        raise CommandError(f"{text!r} is no month; write it as YYYY-MM, such as 2026-05.")
    return dt.date.fromisoformat(f"{text}-01")
