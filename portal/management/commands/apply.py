"""Apply configuration files: orders, classes, catalog, prices and policies, as docs/configuration.md describes them.

The plan is told first, with a diff of each object and what orders cost; then all of it is applied, or where one thing
is refused, nothing. Applying again changes nothing. FILE may be a folder, or - for the standard input.

Exit status: 0 applied, or nothing to do; 1 refused; with --dry-run --exit-code 2 where something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from portal.configuration.applying import Options, Outcome, configuration_apply
from portal.configuration.problems import Refused
from portal.management.configuring import Doors, read_files, told
from tenants import acting, scope
from tenants.errors import BerthError
from tenants.models import User

DIFFERS = 2


class Command(BaseCommand):
    help = __doc__

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        return super().create_parser(prog_name, subcommand, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE")
        parser.add_argument("--dry-run", action="store_true", help="tell the plan and change nothing")
        parser.add_argument(
            "--exit-code", action="store_true", help="with --dry-run: 2 where something differs"
        )
        parser.add_argument(
            "--owner", default="", metavar="LABEL", help="of documents that name none themselves"
        )
        parser.add_argument(
            "--prune", action="store_true", help="take away what has the owner label and is in no file"
        )
        parser.add_argument("--take-over", action="store_true", help="also what has another owner label")
        parser.add_argument(
            "--tenant", default="", metavar="SLUG", help="of documents that name none themselves"
        )
        parser.add_argument(
            "--as", dest="person", default="", metavar="EMAIL", help="apply by this person's rights"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        person = _person(options["person"])
        with contextlib.ExitStack() as stack:
            if person is not None:
                who = acting.person(person, on_behalf="manage.py apply")
                stack.enter_context(acting.acting(acting.Acting(who)))
            try:
                differs = self._work(person, options)
            except Refused as error:
                raise CommandError("\n".join(["Nothing was applied.", *map(str, error.problems)])) from error
            except BerthError as error:
                raise CommandError(error.message) from error
        if differs and options["dry_run"] and options["exit_code"]:
            sys.exit(DIFFERS)

    def _work(self, person: User | None, options: dict[str, Any]) -> bool:
        documents = read_files(options["files"], sys.stdin)
        doors = Doors(tenant=options["tenant"], person=person)

        def run(*, dry_run: bool) -> list[Outcome]:
            # Committed when this returns, before anything is told.
            with scope.platform("apply configuration files"):
                return configuration_apply(
                    documents,
                    find=doors.of,
                    pruned=doors.labelled(options["owner"], documents) if options["prune"] else (),
                    options=Options(
                        dry_run=dry_run,
                        owner=options["owner"],
                        prune=options["prune"],
                        take_over=options["take_over"],
                    ),
                )

        plan = run(dry_run=True)
        self._tell(plan, dry_run=True, with_diff=True, colour=self._colour(options))
        if not options["dry_run"]:
            # Also where nothing differs: who applies under which label may be news.
            self._tell(run(dry_run=False), dry_run=False, with_diff=False, colour=False)
        if options["prune"]:
            with scope.platform("find what else has the owner label"):
                others = doors.elsewhere(options["owner"], documents)
            if others:
                self.stdout.write(
                    f"The owner label {options['owner']} is also found at {', '.join(others)}, which no document "
                    "names: nothing is taken away there."
                )
        return any(each.differs for each in plan)

    def _tell(self, outcomes: list[Outcome], *, dry_run: bool, with_diff: bool, colour: bool) -> None:
        for line in told(outcomes, colour=colour, dry_run=dry_run, with_diff=with_diff):
            self.stdout.write(line)

    def _colour(self, options: dict[str, Any]) -> bool:
        return options["force_color"] or (self.stdout.isatty() and not options["no_color"])


def _person(email: str) -> User | None:
    if not email:
        return None
    found = User.objects.filter(email=email.strip().lower()).first()
    if found is None:
        raise CommandError(f"There is no person {email}.")
    return found
