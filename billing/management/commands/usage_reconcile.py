"""``manage.py usage_reconcile --day YYYY-MM-DD``: compare what each part of the pipe counted of a UTC day."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing.metering.reconciliation import GatewayCheck, Reconciliation, Sums, reconcile
from tenants import scope


class Command(BaseCommand):
    help = (
        "Compare the gateways' logs, the stored segments, their rollups, what statements rate, and engines that"
        " count truly. Ends with an error where they differ and should not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--day", required=True, metavar="YYYY-MM-DD", help="The UTC day.")
        parser.add_argument("--gateway", default="", help="Only the instances of this gateway.")
        parser.add_argument("--json", action="store_true", help="Print everything as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            day = dt.date.fromisoformat(options["day"])
        except ValueError as error:
            raise CommandError(f"{options['day']} is no day; write it as YYYY-MM-DD.") from error
        with scope.platform("reconcile usage"):
            found = reconcile(day=day, now=timezone.now(), gateway=options["gateway"])
        if options["json"]:
            self.stdout.write(msgspec.json.format(msgspec.json.encode(found)).decode())
        else:
            self._print(found)
        if found.is_bad:
            raise CommandError(f"{day} does not reconcile.")

    def _print(self, found: Reconciliation) -> None:
        for each in found.gateways:
            self.stdout.write(f"{each.gateway}: {each.verdict}")
            for name, sums in _parts(each):
                self._line(name, sums)
        self.stdout.write(f"All gateways: {found.verdict}")
        for name in ("stored", "counted", "hours", "days", "rated"):
            self._line(name, getattr(found, name))
        for engine in found.engines:
            self.stdout.write(f"Engines of {engine.name}")
            self._line("metered", engine.metered)
            self._line("engines", engine.counted)

    def _line(self, name: str, sums: Sums | None) -> None:
        words = "not available"
        if sums is not None:
            words = (
                f"{sums.requests:>12,} requests {sums.input_tokens:>15,} input"
                f" {sums.output_tokens:>15,} output {sums.cached_tokens:>15,} cached"
            )
        self.stdout.write(f"  {name:<10}{words}")


def _parts(check: GatewayCheck) -> list[tuple[str, Sums | None]]:
    return [(name, getattr(check, name)) for name in ("logged", "stored", "counted", "refused", "missing")]
