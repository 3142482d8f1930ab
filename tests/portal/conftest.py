"""A tenant with people of every kind, an estate to order on, and their browsers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from django.test import Client

from clusters.endpoints.services import endpoint_order
from clusters.models import Endpoint
from tenants import scope
from tenants.members import member_add
from tenants.models import Project, Role, Tenant, User
from tests.estate import Estate, make_estate
from tests.factories import make_tenant, make_user
from tests.portal.browsing import browsable


@dataclasses.dataclass
class World:
    """The tenant ``nord`` and the stranger's tenant ``other``."""

    estate: Estate
    tenant: Tenant
    other: Tenant
    people: dict[str, User]

    def browser(self, who: str) -> Client:
        """Give a browser in which ``who`` is signed in; nobody is for none."""
        client = Client()
        if who != "nobody":
            client.force_login(self.people[who])
        return client

    def order(self, name: str = "chat", *, tenant: Tenant | None = None, **changes) -> Endpoint:
        """Order an endpoint in the tenant."""
        tenant = tenant or self.tenant
        with scope.tenant(tenant.id):
            return endpoint_order(
                project=Project.objects.get(slug="default"),
                name=name,
                terms=self.estate.terms(**changes),
                actor="test",
            )


@pytest.fixture
def world(db) -> World:
    """Give the world; ``owner`` is member of one tenant only."""
    people = {who: make_user(f"{who}@nord.example", name=who.title()) for who in ("owner", "stranger")}
    tenant = make_tenant("nord", owner=people["owner"], name="Nordwind")
    other = make_tenant("other", owner=people["stranger"], name="Other")
    with scope.tenant(tenant.id):
        for role in (Role.DEVELOPER, Role.BILLING, Role.VIEWER):
            member = member_add(email=f"{role}@nord.example", role=role, granter_role=Role.OWNER)
            people[role.value] = member.user
    return World(estate=make_estate(), tenant=tenant, other=other, people=people)


@pytest.fixture
def portal(committed_db) -> Iterator[str]:
    """The portal on this test's own database, at an address that a browser reaches."""
    with browsable() as url:
        yield url
