"""Clients of the REST API: by management key, by session, without either."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from tenants.models import PlatformRole, Role, Tenant
from tests.estate import Estate, make_estate
from tests.factories import make_tenant, make_user, management_key


def client_of(tenant: Tenant, role: str = Role.OWNER) -> APIClient:
    """Give a client with a fresh management key of this role."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(tenant, role)}")
    client.tenant = tenant
    return client


@pytest.fixture
def tenant(db) -> Tenant:
    return make_tenant("acme", gpus=8)


@pytest.fixture
def stranger(db) -> APIClient:
    """The owner of another tenant."""
    return client_of(make_tenant("other", gpus=8))


@pytest.fixture
def owner(tenant) -> APIClient:
    return client_of(tenant)


@pytest.fixture
def operator(db) -> APIClient:
    """A signed-in operator of the platform."""
    client = APIClient()
    client.force_login(make_user("olga@example.org", platform_role=PlatformRole.OPERATOR))
    return client


@pytest.fixture
def finance(db) -> APIClient:
    """Somebody signed in who keeps the platform's books."""
    client = APIClient()
    client.force_login(make_user("fay@example.org", platform_role=PlatformRole.FINANCE))
    return client


@pytest.fixture
def superuser(db) -> APIClient:
    """Somebody signed in who may do everything on the platform."""
    client = APIClient()
    client.force_login(make_user("root@example.org", is_superuser=True))
    return client


@pytest.fixture
def anonymous() -> APIClient:
    return APIClient()


@pytest.fixture
def estate(db) -> Estate:
    return make_estate()
