"""Write what a month cost as a file in FOCUS 1.2, CSV or Parquet by the ending of its name.

A final statement is written as it is. A month that is still open is written as it stands, with no InvoiceId. The
BilledCost of all rows of a tenant adds up to the total of its statement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.focus.files import all_month_rows, focus_write, month_rows
from billing.management.commands.statement_run import month_of_option, tenant_of_option
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
        span = {"month": month_of_option(options["month"]), "now": timezone.now()}
        if options["tenant"]:
            rows = month_rows(tenant_of_option(options["tenant"]), **span)
        else:
            with scope.platform("find the tenants of a FOCUS export"):
                rows = all_month_rows(list(Tenant.objects.order_by("slug")), **span)
        try:
            count = focus_write(rows=rows, path=options["out"], for_validator=options["for_validator"])
        except BerthError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"{options['out']}: {count} row{'' if count == 1 else 's'} in FOCUS 1.2")
