"""Compute the statements of a month, of all tenants or of one, and close those whose grace is over.

Without --close nothing is closed: drafts are computed again, and those whose month is over go into grace. It may be
killed and run again at any time; what was closed stays closed.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.statements import statement_run
from tenants import locks, scope
from tenants.models import Tenant
from tenants.processes import ProcessLost

#: Each has a connection to the database.
MOST_WORKERS: Final = 32


def month_of_option(text: str) -> dt.date:
    """Read YYYY-MM.

    Raises:
        CommandError: it is no month.
    """
    if not re.fullmatch(r"2\d{3}-(0[1-9]|1[0-2])", text, re.ASCII):
        raise CommandError(f"{text!r} is not a month; write it as 2026-05.")
    return dt.date.fromisoformat(f"{text}-01")


def tenant_of_option(slug: str) -> Tenant:
    """Find a tenant by its slug.

    Raises:
        CommandError: there is none.
    """
    with scope.platform("find a tenant by its slug"):
        found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no tenant {slug!r}.")
    return found


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--month", required=True, metavar="YYYY-MM")
        parser.add_argument("--close", action="store_true", help="Close what is due.")
        parser.add_argument("--tenant", metavar="SLUG", help="Only this tenant's.")
        parser.add_argument("--workers", type=int, default=2, help="Processes that compute at once.")

    def handle(self, *args: Any, **options: Any) -> None:
        month = month_of_option(options["month"])
        tenant = options["tenant"] and tenant_of_option(options["tenant"])
        if not 1 <= options["workers"] <= MOST_WORKERS:
            raise CommandError(f"--workers is a number from 1 to {MOST_WORKERS}.")
        with locks.claimed("statements") as mine:
            if not mine:
                raise CommandError("Statements are being computed already; try again when that run is over.")
            try:
                run = statement_run(
                    month=month,
                    now=timezone.now(),
                    close=options["close"],
                    tenant_ids=[tenant.id] if tenant else None,
                    workers=options["workers"],
                )
            except ProcessLost as error:
                raise CommandError(f"{str(error).capitalize()}. Run it again.") from error
        self.stdout.write(
            f"{month:%Y-%m}: {run.closed} closed, {run.drafted} open, of which {run.waiting} wait for their "
            f"grace, an earlier month or the rollups and {run.parked} are parked."
        )
        if run.failed:
            raise CommandError(f"{run.failed} could not be computed; the log says why.")
