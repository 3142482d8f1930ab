"""Write off what a gateway that is gone was granted of budgets and has not settled.

GATEWAY is its name, or its name, a slash, and the instance of one data folder, as budgets show it. Do it only when
its process is surely dead and its data folder will not come back: what it did spend and could not report is then
spent twice.
"""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.budgets.ledger import gateway_release
from billing.models import BudgetLease
from tenants import scope
from tenants.audit import audit


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("gateway", metavar="GATEWAY[/INSTANCE]")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["gateway"]
        with scope.platform("look for the leases of a gateway"):
            known = set(BudgetLease.objects.order_by().values_list("lessee", flat=True).distinct())
        if not any(lessee in (name, f"{name}/{lessee.partition('/')[2]}") for lessee in known):
            raise CommandError(
                f"No gateway {name} ever held a lease; known are {', '.join(sorted(known)) or 'none'}."
            )
        released = gateway_release(name, now=timezone.now())
        audit(None, "budget.release", gateway=name, leases=released, account=getpass.getuser())
        self.stdout.write(f"{released} leases of {name} are written off.")
