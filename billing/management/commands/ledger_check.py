"""Draw the trial balance: every transaction sums to zero, receivables are final statements, lines are entries.

The exit status is 1 where anything does not add up; each finding names the tenant.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.ledger import ledger_check
from billing.management.commands.statement_run import tenant_of_option
from billing.models import LedgerTransaction
from tenants import scope
from tenants.models import Tenant


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="Only this tenant's accounts.")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = options["tenant"] and tenant_of_option(options["tenant"])
        with scope.platform("draw the trial balance"):
            findings = ledger_check(tenant_ids=[tenant.id] if tenant else None)
            slugs = dict(
                Tenant.objects.filter(id__in={found.tenant_id for found in findings}).values_list(
                    "id", "slug"
                )
            )
            count = LedgerTransaction.objects.count()
        for found in findings:
            self.stderr.write(f"{slugs[found.tenant_id]}: {found.text}")
        if findings:
            raise CommandError(f"{len(findings)} findings: the ledger does not add up.")
        self.stdout.write(f"The ledger adds up: {count} transactions.")
