"""A tenant with two who decide and one who asks, on the small estate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from clusters.endpoints import services
from clusters.endpoints.approvals import decisions, rules
from clusters.endpoints.approvals.deciding import Decider
from clusters.endpoints.policy import setting
from clusters.models import ApprovalRequest, ApprovalRule, Endpoint
from tenants import scope
from tenants.members import member_add
from tenants.models import Project, Role, Tenant, User
from tests.estate import Estate, make_estate
from tests.factories import make_tenant, make_user
from tests.fakes.cluster import FakeCluster


@dataclasses.dataclass
class Office:
    """The tenant ``acme`` with an owner, an admin and a developer."""

    estate: Estate
    tenant: Tenant
    people: dict[str, User]

    def decider(self, who: str, *, via: str = "api") -> Decider:
        """Give one of the people as who decides, with their role."""
        return Decider(user=self.people[who], actor=self.people[who].email, role=who, via=via)

    def rule(self, kind: str, **values: Any) -> ApprovalRule:
        """Make a rule."""
        with scope.tenant(self.tenant.id):
            return rules.rule_create(kind=kind, **values)

    def policy(self, who: str = "owner", *, alone: bool = False, **values: Any) -> setting.Change:
        """Set the policy: what is not given is not restricted. A second person agrees to it, unless ``alone``."""
        with scope.tenant(self.tenant.id):
            change = setting.policy_set(
                values=values, set_by=self.people[who], set_as=self.people[who].email, role=who
            )
        if change.request is not None and not alone:
            self.decide("approve", change.request, "admin" if who == "owner" else "owner")
        return change

    def order(self, name: str = "chat", *, who: str = "developer", **terms: Any) -> Endpoint:
        """Order an endpoint."""
        with scope.tenant(self.tenant.id):
            return services.endpoint_order(
                project=Project.objects.get(slug="default"),
                name=name,
                terms=self.estate.terms(**terms),
                actor=self.people[who].email,
                created_by=self.people[who],
            )

    def act(self, service: Callable[..., Any], *, who: str = "developer", **wishes: Any) -> Any:
        """Do something with an endpoint as one of the people."""
        with scope.tenant(self.tenant.id):
            return service(actor=self.people[who].email, asked_by=self.people[who], **wishes)

    def decide(
        self, how: str, request: ApprovalRequest, who: str = "admin", **wishes: Any
    ) -> ApprovalRequest:
        """Approve, refuse, change or withdraw a request."""
        with scope.tenant(self.tenant.id):
            service = getattr(decisions, f"approval_{how}")
            return service(request=request, decider=self.decider(who), **wishes)

    def request(self, endpoint: Endpoint | None = None) -> ApprovalRequest:
        """Give the newest request, of an endpoint where one is given."""
        with scope.tenant(self.tenant.id):
            rows = ApprovalRequest.objects.select_related("endpoint", "asked_by")
            rows = rows.filter(endpoint=endpoint) if endpoint else rows
            return rows.order_by("-id")[0]

    def requests(self) -> int:
        """Count the requests."""
        with scope.tenant(self.tenant.id):
            return ApprovalRequest.objects.count()

    def fresh(self, endpoint: Endpoint) -> Endpoint:
        """Read an endpoint anew."""
        with scope.tenant(self.tenant.id):
            return Endpoint.objects.select_related("tenant", "model", "slo_class").get(id=endpoint.id)


def make_office(*, gpus: int = 12) -> Office:
    """Make the office on a fresh estate."""
    people = {"owner": make_user("olive@acme.example")}
    tenant = make_tenant("acme", owner=people["owner"], gpus=gpus)
    with scope.tenant(tenant.id):
        for role in (Role.ADMIN, Role.DEVELOPER, Role.BILLING):
            member = member_add(email=f"{role}@acme.example", role=role, granter_role=Role.OWNER)
            people[role.value] = member.user
    return Office(estate=make_estate(), tenant=tenant, people=people)


@pytest.fixture
def office(db) -> Office:
    return make_office()


@pytest.fixture
def cluster(monkeypatch):
    """One fake cluster behind every driver."""
    fake = FakeCluster()
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *args, **values: fake)
    return fake
