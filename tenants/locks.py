"""Named advisory locks of PostgreSQL: one table of keys for all periodic work."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

from django.db import connection, transaction


class Lock(enum.IntEnum):
    """What may run only once at a time. The numbers are the lock's name in the database; never reuse one."""

    USAGE_ROLLUPS = 7001
    USAGE_PARTITIONS = 7002
    ADVICE_RUNS = 7003
    GPU_HOURS = 7010
    BUDGETS = 7020
    OUTBOX = 7021
    REPORTS = 7040


@contextlib.contextmanager
def held(lock: Lock, *, wait: bool = False) -> Iterator[bool]:
    """Run the block in one transaction that holds ``lock``; give whether it was obtained.

    Without ``wait`` a lock that another transaction holds is not waited for and False is given. The
    database lets go of it when the transaction ends, also that of a killed process.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock])
            yield True
        else:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [lock])
            yield cursor.fetchone()[0]


def share(lock: Lock) -> None:
    """Wait until nobody :func:`held` ``lock``, and keep it from being held until the open transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [lock])


@contextlib.contextmanager
def claimed(name: str) -> Iterator[bool]:
    """Claim ``name`` for the length of the block; give False when somebody else has it.

    The claim belongs to this database session, not to a transaction: work with the outside world can go
    on under it. It writes no row, and the database gives it up in the moment the session ends, so that a
    killed worker holds nothing.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        (mine,) = cursor.fetchone()
    try:
        yield mine
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
