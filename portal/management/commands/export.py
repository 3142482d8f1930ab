"""Write what there is as configuration files, for manage.py apply: the platform's, and every tenant's or one's.

Applying what was exported changes nothing. Secrets (credentials, keys) and tokenizers are not in it.
"""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.configuration.exporting import configuration_export
from portal.configuration.kinds import KINDS
from portal.configuration.writing import to_file
from portal.management.configuring import Doors
from tenants import scope
from tenants.errors import BerthError
from tenants.models import Tenant


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--kind", action="append", default=[], choices=list(KINDS), help="only these; may be repeated"
        )
        parser.add_argument("--tenant", default="", metavar="SLUG", help="only what is this tenant's")

    def handle(self, *args: Any, **options: Any) -> None:
        doors = Doors()
        found = []
        with scope.platform("export the configuration of the platform and of tenants"):
            for slug in [options["tenant"]] if options["tenant"] else ["", *_tenants()]:
                try:
                    place, by = doors.at(slug)
                except BerthError as error:
                    raise CommandError(error.message) from error
                found += configuration_export(place=place, by=by, kinds=options["kind"])
        self.stdout.write(to_file(found), ending="")


def _tenants() -> list[str]:
    return list(Tenant.objects.order_by("slug").values_list("slug", flat=True))
