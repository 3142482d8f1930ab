"""The world of the matrix: made once for all of these tests in one transaction, which is taken back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from tenants.keys import key_authenticate
from tests.access.callers import Callers, once
from tests.access.world import World, make_world


@pytest.fixture(scope="package")
def world(django_db_setup, django_db_blocker) -> Iterator[World]:
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        outer = transaction.atomic()
        outer.__enter__()
        try:
            yield make_world(lambda name, stand_in: patch.setattr(name, stand_in))
        finally:
            transaction.set_rollback(True)
            outer.__exit__(None, None, None)
            connection.close()


@pytest.fixture(scope="package")
def callers(world) -> Iterator[Callers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("portal.api.authentication.key_authenticate", once(key_authenticate))
        yield Callers(world)


@contextlib.contextmanager
def taken_back() -> Iterator[None]:
    """Undo whatever the block does to the database, so that every request meets the same world."""
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)
