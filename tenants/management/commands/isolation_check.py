"""Says whether the open database keeps tenants apart as it should; fails where it does not."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from tenants.isolation_checks import faults


class Command(BaseCommand):
    help = (
        "Check row-level security, policies, indexes and the application's role in the database that is open."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            found = faults(cursor, role=cursor.fetchone()[0])
        if found:
            raise CommandError("\n".join(found))
        self.stdout.write(
            "Every table is isolated or exempt with a reason; the application's role may not pass by."
        )
