"""Budgets in the portal and the console: made, changed, shown with what is spent, held and left, and told when near."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from billing.budgets.services import budget_change, budget_create
from billing.models import Budget
from tenants import scope
from tenants.keys import key_mint
from tenants.models import KeyScope, PlatformRole, Project
from tests.api.test_budgets import spend
from tests.factories import make_user

pytestmark = pytest.mark.django_db

FORM = {
    "name": "June", "owner": "tenant", "unit": "money", "limit": "100", "period": "month",
    "alert_percents": "50, 80 100%", "active": "on",
}  # fmt: skip


def budgets(world) -> list[Budget]:
    with scope.tenant(world.tenant.id):
        return list(Budget.objects.order_by("name"))


@pytest.fixture
def budget(world) -> Budget:
    with scope.tenant(world.tenant.id):
        return budget_create(name="June", unit="money", limit=Decimal(100), period="month")


def test_a_budget_is_made_for_the_tenant_a_project_or_a_key(world):
    with scope.tenant(world.tenant.id):
        project = Project.objects.get()
        key, _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project)
    browser = world.browser("billing")
    for name, owner in (("a", "tenant"), ("b", f"project:{project.id}"), ("c", f"key:{key.id}")):
        assert browser.post("/t/nord/budgets/new", FORM | {"name": name, "owner": owner}).status_code == 302
    made = budgets(world)
    assert [(each.owner_kind, each.owner_id) for each in made] == [
        ("tenant", world.tenant.id), ("project", project.id), ("key", key.id),
    ]  # fmt: skip
    assert made[0].alert_percents == [50, 80, 100]
    page = browser.get("/t/nord/budgets").text
    for told in ("All of Nordwind", "Project Default", "Key app", "0.00 of 100.00 EUR"):
        assert told in page


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"), ({"limit": "-1"}, "limit"), ({"limit": "much"}, "limit"),
        ({"unit": "tokens", "limit": "1.5"}, "limit"), ({"owner": "key:x"}, "owner"), ({"period": "year"}, "period"),
        ({"alert_percents": "0"}, "alert_percents"), ({"alert_percents": "101, 5"}, "alert_percents"),
        ({"alert_percents": "half"}, "alert_percents"), ({"unit": "hours"}, "unit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_beside_its_field_and_kept(world, change, field):
    answer = world.browser("owner").post("/t/nord/budgets/new", FORM | change)
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    assert budgets(world) == []


def test_what_is_spent_held_and_left_is_shown_and_the_home_page_tells_when_near(world, budget):
    browser = world.browser("owner")
    assert "has passed" not in browser.get("/t/nord/").text
    spend({"id": str(budget.id)}, "82.5", held="2.5")
    page = browser.get(f"/t/nord/budgets/{budget.id}").text
    for told in ("82.50 EUR (82 %)", "2.50 EUR", "15.00 EUR", "80 % was reached", "gw-de/1"):
        assert told in page
    assert "Near its limit" in browser.get("/t/nord/budgets").text
    home = browser.get("/t/nord/").text
    assert "has passed 80 %" in home
    assert "82.50 of 100.00 EUR for all of Nordwind" in home
    assert "has passed" not in world.browser("stranger").get("/t/other/").text


def test_a_spent_budget_says_what_happens(world, budget):
    spend({"id": str(budget.id)}, "100")
    browser = world.browser("viewer")
    assert "Requests are refused until it begins anew" in browser.get(f"/t/nord/budgets/{budget.id}").text
    assert "is spent" in browser.get("/t/nord/").text


def test_a_budget_is_changed_taken_out_of_force_and_deleted(world, budget):
    browser = world.browser("owner")
    path = f"/t/nord/budgets/{budget.id}"
    form = browser.get(f"{path}/edit").context["form"]
    assert (form["limit"].value(), form["alert_percents"].value()) == ("100", "50, 80, 100")
    browser.post(f"{path}/edit", {"name": "July", "limit": "250.5", "alert_percents": ""})
    (changed,) = budgets(world)
    assert (changed.name, changed.limit, changed.alert_percents, changed.active) == (
        "July", Decimal("250.5"), [], False,
    )  # fmt: skip
    assert "Not in force" in browser.get("/t/nord/budgets").text
    assert "cannot be undone" in browser.get(f"{path}/delete").text
    browser.post(f"{path}/delete")
    assert budgets(world) == []


def test_only_some_roles_change_budgets(world, budget):
    for who in ("developer", "viewer"):
        browser = world.browser(who)
        assert browser.get(f"/t/nord/budgets/{budget.id}").status_code == 200
        assert browser.post("/t/nord/budgets/new", FORM).status_code == 403
        for page in ("edit", "delete"):
            assert browser.post(f"/t/nord/budgets/{budget.id}/{page}", FORM).status_code == 403
    assert len(budgets(world)) == 1


def test_operators_see_a_tenants_budgets(world, budget):
    spend({"id": str(budget.id)}, "40", held="5")
    client = Client()
    client.force_login(make_user("olga@example.org", platform_role=PlatformRole.OPERATOR))
    page = client.get(reverse("console:tenant", args=["nord"])).text
    for told in ("June", "All of Nordwind", "40.00 EUR", "5.00 EUR", "55.00 EUR", "100.00 EUR"):
        assert told in page


def test_the_list_takes_as_many_queries_for_many_as_for_one(world, budget, django_assert_max_num_queries):
    browser = world.browser("owner")
    browser.get("/t/nord/budgets")
    with django_assert_max_num_queries(30) as few:
        browser.get("/t/nord/budgets")
    with scope.tenant(world.tenant.id):
        for number in range(4):
            budget_create(name=f"more {number}", unit="tokens", limit=Decimal(9), period="day")
    with django_assert_max_num_queries(len(few)):
        browser.get("/t/nord/budgets")


def test_a_budget_of_gpu_time_is_made_with_a_policy_and_whom_to_write_to(world):
    browser = world.browser("owner")
    page = browser.get("/t/nord/budgets/new").text
    for told in ("GPU-hours", "Money for GPUs", "Only warn", "Stop endpoints", "billing@nord.example"):
        assert told in page
    chosen = {
        "unit": "gpu_money", "policy": "stop", "mail_alerts": "on", "members": ["billing@nord.example"],
        "addresses": "cfo@nord.example, boss@nord.example",
    }  # fmt: skip
    assert browser.post("/t/nord/budgets/new", FORM | chosen).status_code == 302
    (made,) = budgets(world)
    assert (made.unit, made.basis, made.policy, made.mail_alerts) == ("money", "gpu_time", "stop", True)
    assert made.recipients == ["billing@nord.example", "boss@nord.example", "cfo@nord.example"]
    page = browser.get(f"/t/nord/budgets/{made.id}").text
    for told in (
        "are paused until a person resumes them",
        "cfo@nord.example",
        "Reserved for what runs",
        "Forecast",
    ):
        assert told in page
    form = browser.get(f"/t/nord/budgets/{made.id}/edit").context["form"]
    assert form["addresses"].value() == "boss@nord.example, cfo@nord.example"
    wrong = browser.post(f"/t/nord/budgets/{made.id}/edit", FORM | {"addresses": "boss"})
    assert list(wrong.context["form"].errors) == ["addresses"]


def test_endpoints_of_a_budget_are_shown_and_the_order_form_says_what_does_not_fit(world):
    world.order("chat", replicas=1)
    with scope.tenant(world.tenant.id):
        budget = budget_create(name="GPUs", unit="gpu_hours", limit=Decimal(100_000), period="month")
    browser = world.browser("owner")
    page = browser.get(f"/t/nord/budgets/{budget.id}").text
    assert "By endpoint" in page
    assert ">chat</a>" in page
    form = "/t/nord/order?model=berth-docs-ngram"
    assert "Budget GPUs" in browser.get(form).text
    with scope.tenant(world.tenant.id):
        budget_change(budget=budget, limit=Decimal(1))
    page = browser.get(form).text
    assert "Over budget" in page
    assert "until the budget GPUs begins anew" in page
