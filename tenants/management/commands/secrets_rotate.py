"""Wrap every sealed secret under the newest sealing key, while Berth serves. It may be stopped and begun again."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import BerthError
from tenants.sealing.envelope import newest_head
from tenants.sealing.rotation import BATCH, Progress, secrets_rotate, secrets_status


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would be wrapped, and change nothing."
        )
        parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help="Rows in one transaction.")
        parser.add_argument(
            "--data", action="store_true", help="Encrypt the values anew, too, under new data keys."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["batch"] < 1:
            raise CommandError("A batch has at least one row.")
        try:
            if options["dry_run"]:
                self._foretell(options["data"])
                return
            run = secrets_rotate(batch=options["batch"], with_data=options["data"], tell=self._tell)
        except (BerthError, ImproperlyConfigured) as error:
            raise CommandError(f"{error} What was wrapped stays; run it again.") from error
        self.stdout.write(
            f"Under {run.provider}:{run.key_id}: {run.wrapped} wrapped, {run.left} left as they are."
        )
        if run.left:
            raise CommandError(
                "Not all is wrapped: set what does not open anew, and run it again for what was held."
            )

    def _tell(self, progress: Progress) -> None:
        if progress.wrapped:
            self.stdout.write(f"{progress.column}: {progress.wrapped}")
        for line in progress.broken:
            self.stderr.write(line)

    def _foretell(self, with_data: bool) -> None:
        newest = newest_head()
        for rested in secrets_status():
            if with_data or rested.head != newest:
                what = "would be wrapped" if rested.opens else "would be left: its key is gone"
                self.stdout.write(
                    f"{rested.column}: {rested.values} under {rested.head or 'no known key'} {what}"
                )
        self.stdout.write(f"The newest key is {newest}. Nothing was changed.")
