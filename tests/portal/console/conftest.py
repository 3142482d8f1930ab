"""An estate with two tenants and an operator who looks at it."""

from __future__ import annotations

import pytest

from clusters.endpoints import services
from tenants import scope
from tenants.models import PlatformRole
from tests.estate import make_estate
from tests.factories import default_project, make_tenant, make_user


@pytest.fixture
def estate(db):
    return make_estate()


@pytest.fixture
def operator(db):
    return make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)


@pytest.fixture
def console(client, operator):
    """A browser in which the operator is signed in."""
    client.force_login(operator)
    return client


@pytest.fixture
def acme(estate):
    return make_tenant("acme", name="Acme <b>GmbH</b>")


@pytest.fixture
def endpoint(estate, acme):
    """An endpoint that Acme ordered and that holds GPUs."""
    project = default_project(acme)
    with scope.tenant(acme.id):
        return services.endpoint_order(
            project=project, name="chat", terms=estate.terms(), actor="ann@example.org"
        )
