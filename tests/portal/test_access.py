"""Who may open which screen: owner, viewer, stranger, anonymous."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.urls import reverse

from billing.budgets.services import budget_create
from clusters.endpoints.routes import route_create
from gateway.contract import RouteRule, RouteTarget
from tenants import scope
from tenants.keys import key_mint
from tenants.members import member_add
from tenants.models import KeyScope, Project
from tenants.service_accounts import service_account_create

pytestmark = pytest.mark.django_db

#: Screens by URL name with what a viewer gets.
SCREENS = {
    "endpoints": 200, "endpoints-table": 200, "catalog": 200, "order": 403, "keys": 200, "key-new": 403,
    "usage": 403, "usage-csv": 403, "statements": 403, "projects": 200, "project-new": 403, "members": 200,
    "member-new": 403, "routes": 200, "route-new": 403, "budgets": 200, "budget-new": 403, "settings": 200,
    "webhooks": 403, "webhook-new": 403, "keys-revoke": 403, "key-leaked": 403, "service-accounts": 200,
    "service-account-new": 403,
    "sign-in": 403, "sign-in-provider-new": 403,
}  # fmt: skip
OF_ENDPOINTS = {
    "endpoint": 200, "endpoint-revisions": 200, "endpoint-playground": 200, "endpoint-logs": 200,
    "endpoint-log": 200, "endpoint-load": 200, "endpoint-replan": 403, "endpoint-what-if": 200,
    "endpoint-cost": 403, "endpoint-scale": 403, "endpoint-delete": 403,
    "endpoint-limits": 403,
}  # fmt: skip


@pytest.mark.parametrize("name", SCREENS)
def test_screens_of_the_tenant(world, name):
    path = reverse(f"tenant:{name}", args=["nord"])
    _check(world, path, viewer=SCREENS[name])


@pytest.mark.parametrize("name", OF_ENDPOINTS)
def test_screens_of_an_endpoint(world, name):
    endpoint = world.order()
    _check(world, reverse(f"tenant:{name}", args=["nord", endpoint.id]), viewer=OF_ENDPOINTS[name])
    # The id of one tenant's endpoint under another tenant's address is a page that does not exist.
    foreign = reverse(f"tenant:{name}", args=["other", endpoint.id])
    assert world.browser("stranger").get(foreign).status_code == 404


def test_other_objects(world):
    with scope.tenant(world.tenant.id):
        project = Project.objects.get()
        key, _ = key_mint(name="k", key_scope=KeyScope.INFERENCE, project=project)
        account = service_account_create(name="ci", role="viewer")
    endpoint = world.order()
    with scope.tenant(world.tenant.id):
        rule = RouteRule(targets=(RouteTarget(endpoint_id=str(endpoint.id)),))
        route = route_create(project=project, name="smart", rules=[rule])
        budget = budget_create(name="June", unit="money", limit=Decimal(5), period="month")
    for name, id in {
        "key-revoke": key.id, "key": key.id, "key-rotate": key.id, "service-account": account.id,
        "service-account-remove": account.id, "project": project.id, "route": route.id, "route-edit": route.id,
        "route-delete": route.id, "budget": budget.id, "budget-edit": budget.id, "budget-delete": budget.id,
    }.items():  # fmt: skip
        _check(
            world,
            reverse(f"tenant:{name}", args=["nord", id]),
            viewer=200 if name in {"route", "budget"} else 403,
        )
        foreign = reverse(f"tenant:{name}", args=["other", id])
        assert world.browser("stranger").get(foreign).status_code == 404
    _check(world, reverse("tenant:model", args=["nord", "berth-docs-ngram"]), viewer=200)


def _check(world, path, *, viewer):
    assert world.browser("owner").get(path).status_code == 200
    assert world.browser("viewer").get(path).status_code == viewer
    assert world.browser("stranger").get(path).status_code == 404
    anonymous = world.browser("nobody").get(path)
    assert anonymous.status_code == 302
    assert anonymous.url.startswith("/accounts/login/?next=")


def test_billing_sees_money_and_orders_nothing(world):
    browser = world.browser("billing")
    assert browser.get("/t/nord/usage").status_code == 200
    assert browser.get("/t/nord/order").status_code == 403
    assert browser.post("/t/nord/order", {}).status_code == 403


def test_a_fragment_sends_anonymous_people_to_sign_in_as_a_whole(world):
    answer = world.browser("nobody").get("/t/nord/endpoints/table", headers={"HX-Request": "true"})
    assert answer["HX-Redirect"].startswith("/accounts/login/")


def test_home_leads_to_where_one_belongs(world):
    assert world.browser("nobody").get("/").url.startswith("/accounts/login/")
    assert world.browser("owner").get("/").url == "/t/nord/"
    with scope.tenant(world.other.id):
        member_add(email="owner@nord.example", role="viewer", granter_role="owner")
    assert world.browser("owner").get("/").url == "/tenants"
    page = world.browser("owner").get("/tenants").content.decode()
    assert "/t/nord/" in page
    assert "/t/other/" in page


def test_healthz_answers(world):
    assert world.browser("nobody").get("/healthz").json() == {"status": "ok"}


def test_unknown_pages_are_told_kindly(world):
    answer = world.browser("owner").get("/t/nord/nowhere")
    assert answer.status_code == 404
    assert "There is nothing here" in answer.content.decode()
    assert world.browser("owner").get("/t/nord/catalog/%00").status_code == 400
    assert world.browser("owner").get("/t/nord/keys?page=%00").status_code == 400
