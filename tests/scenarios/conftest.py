from __future__ import annotations

import pytest

from portal.demo import accounts
from tests.scenarios.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """The whole of Berth, started once for all scenarios of this worker."""
    running = Stack(tmp_path_factory.mktemp("berth") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def owner(stack):
    """The first demo tenant's owner, signed in."""
    return stack.sign_in(accounts.TENANTS[0].owner)


@pytest.fixture(scope="session")
def stranger(stack):
    """The second demo tenant's owner, signed in."""
    return stack.sign_in(accounts.TENANTS[1].owner)
