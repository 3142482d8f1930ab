"""Say how many secrets rest under which sealing key, and whether every one of those keys is there.

With --without it says whether a key may be taken away. It ends with status 1 where a secret would not open.
"""

from __future__ import annotations

import collections
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.errors import BerthError
from tenants.models import SealingRotation
from tenants.sealing.rotation import keys_held, secrets_status


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--without",
            metavar="PROVIDER:KEY",
            help="Say whether this key may go, for instance environment:1.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            held = keys_held()
            rests = secrets_status()
        except (BerthError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        total = collections.Counter(dict.fromkeys(held, 0))
        for rested in rests:
            total[rested.head] += rested.values
        for head, count in total.items():
            note = "seals what is new" if head == held[-1] else "" if head in held else "not set up any more"
            self.stdout.write(f"{head or 'older versions'!s:<32} {count:>9}  {note}".rstrip())
        for rested in rests:
            self.stdout.write(f"  {rested.column:<48} {rested.values:>9}  {rested.head or 'older versions'}")
        last = SealingRotation.objects.first()
        if last is not None:
            ended = f"ended {last.ended_at:%Y-%m-%d %H:%M} UTC" if last.ended_at else "not ended"
            self.stdout.write(
                f"Last rotation: {last.created_at:%Y-%m-%d %H:%M} UTC to {last.provider}:{last.key_id}, {ended}."
            )
        self._judge(
            options["without"], {str(head): count for head, count in total.items()}, rests, str(held[-1])
        )

    def _judge(self, without: str | None, total: dict[str, int], rests: list, newest: str) -> None:
        shut = sum(rested.values for rested in rests if not rested.opens)
        if shut:
            raise CommandError(f"{shut} secrets do not open: bring their keys back, or set them anew.")
        if without is None:
            return
        if without not in total:
            raise CommandError(f"There is no key {without}; there are {', '.join(total)}.")
        if total[without] or without == newest:
            why = "it seals what is new" if without == newest else f"{total[without]} secrets rest under it"
            raise CommandError(f"Keep {without}: {why}. Run secrets_rotate under a newer key first.")
        self.stdout.write(
            f"Nothing rests under {without}: it may go once no process seals under it any more."
        )
