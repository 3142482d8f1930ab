"""Telling whoever waits that rows changed from which gateways serve: PostgreSQL's NOTIFY.

It stands in the lowest room, for keys, projects and budgets change here and in billing; who listens, and what a
gateway is then given, is the clusters room's.
"""

from __future__ import annotations

from typing import Final

from django.db import connection

CHANNEL: Final = "berth_snapshot"


def announce() -> None:
    """Let waiting gateways look again, once the open transaction has committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
