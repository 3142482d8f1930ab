"""The estate that tests begin with is copied row by row: as many rows of the same tables as its services make."""

from __future__ import annotations

from collections import Counter

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from tests import estate


@pytest.mark.parametrize(
    ("made", "copied"),
    [
        (estate.make_estate_anew, estate.make_estate),
        (lambda: call_command("bootstrap", verbosity=0), estate.bootstrap),
    ],
)
def test_a_copy_has_all_that_the_services_make(db, made, copied):
    def written(make) -> Counter:
        with transaction.atomic(), connection.cursor() as cursor:
            before = _inserted(cursor)
            make()
            after = _inserted(cursor)
            transaction.set_rollback(True)
        return after - before

    by_services, first, copy = written(made), written(copied), written(copied)
    assert by_services == first == copy
    assert by_services["billing_price"]


def _inserted(cursor) -> Counter:
    """Count the rows that this transaction has inserted, by table; how many steps it took, the audit knows."""
    cursor.execute("SELECT relname, n_tup_ins FROM pg_stat_xact_user_tables WHERE n_tup_ins > 0")
    return Counter({name: rows for name, rows in cursor.fetchall() if name != "tenants_auditpending"})
