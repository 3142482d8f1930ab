"""What every test may lean on: a database cloned from a migrated template, tenants, API clients."""

from __future__ import annotations

import fcntl
import gc
import os

import pytest
from django.db import connections

from embedded import services
from tests import databases
from tests.keys_found import keys_in

pytest_plugins = ("tests.kube.plugin", "tests.secrets_seen")


def pytest_configure(config) -> None:
    # Every run holds a shared lock; the last to end gets the exclusive one and stops the services.
    config.run_lock = databases.data_dir().file("test-runs.lock").open("w")
    fcntl.flock(config.run_lock, fcntl.LOCK_SH)


def pytest_collection_finish(session) -> None:
    # Thousands of collected tests would be gone through again and again for garbage that they never are.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure(config) -> None:
    try:
        fcntl.flock(config.run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        services.stop(databases.data_dir())
    finally:
        config.run_lock.close()


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker):
    """Give this worker a fresh copy of the migrated template, used as the application role."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"test_{worker}_{os.getpid()}"
    databases.clone(name)
    connection = connections["default"]
    connection.close()
    connection.settings_dict["NAME"] = name
    yield name
    with django_db_blocker.unblock():
        connections.close_all()
    _drop(name)


@pytest.fixture
def committed_db(django_db_setup, django_db_blocker, request):
    """A database of this test's own, in which commits are real; for tests with threads or processes.

    Gives the URL for the application role.
    """
    name = f"committed_{os.getpid()}_{abs(hash(request.node.nodeid)) % 10**8}"
    url = databases.clone(name)
    connection = connections["default"]
    before = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            yield url
        finally:
            connection.close()
            connection.settings_dict["NAME"] = before
    _drop(name)


def _drop(name: str) -> None:
    keys = keys_in(name)
    databases.drop(name)
    assert keys == [], "keys rest as they were shown in these tables"
