"""Make final statements again from the inputs that they keep, and compare them byte by byte.

Compared are the hash over the inputs, the document, the stored lines and the entries of the ledger. The exit status is
1 where anything differs. With --from-rollups the inputs are compared with rollups, allocations and prices, too: what
differs there came after the close and is, or will be, a correction on a later statement; it is told and no failure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.management.commands.statement_run import month_of_option, tenant_of_option
from billing.models import Statement
from billing.statements.replay import differences_since, statement_replay
from tenants import scope


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--tenant", metavar="SLUG")
        which.add_argument("--all", action="store_true", help="Every final statement of every tenant.")
        parser.add_argument("--month", metavar="YYYY-MM", help="Needed with --tenant.")
        parser.add_argument("--out", metavar="FILE", type=Path, help="Write the document there.")
        parser.add_argument("--from-rollups", action="store_true", help="Tell what changed since the close.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["tenant"] and not options["month"]:
            raise CommandError("Say which month of the tenant: --month YYYY-MM.")
        if options["out"] and not options["tenant"]:
            raise CommandError("--out writes one document: name it by --tenant and --month.")
        with scope.platform("replay final statements"):
            asked = Statement.objects.filter(state=Statement.State.FINAL)
            if options["tenant"]:
                asked = asked.filter(tenant=tenant_of_option(options["tenant"]))
            if options["month"]:
                asked = asked.filter(month=month_of_option(options["month"]))
            ids = list(asked.order_by("number").values_list("id", flat=True))
            if not ids and options["tenant"]:
                raise CommandError("There is no final statement of that tenant and month.")
            different = sum(not self._same(Statement.objects.get(id=each), options) for each in ids)
        self.stdout.write(f"{len(ids) - different} of {len(ids)} statements are the same, byte by byte.")
        if different:
            raise CommandError(f"{different} of {len(ids)} statements differ.")

    def _same(self, statement: Statement, options: dict[str, Any]) -> bool:
        replay = statement_replay(statement)
        for problem in replay.problems:
            self.stderr.write(f"{statement.number}: {problem}")
        if options["out"]:
            try:
                options["out"].write_bytes(replay.document)
            except OSError as error:
                raise CommandError(f"{options['out']} cannot be written: {error.strerror}.") from error
        if options["from_rollups"]:
            for difference in differences_since(statement):
                self.stdout.write(f"{statement.number}: since the close, {difference}")
        return not replay.problems
