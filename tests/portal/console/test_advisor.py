"""The advisor's page: plan the fleet, look at the moves, decide on them, set the policy."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.urls import reverse

from billing.prices import price_set
from clusters.endpoints.advisor.runs import advice_run_execute
from clusters.models import AdviceMove, AdvicePolicy, AdviceRun, Endpoint
from tenants import scope
from tests.factories import make_user

PAGE = "console:advisor"


@pytest.fixture
def ready(endpoint):
    """An endpoint that serves from an L4 in Finland or Germany."""
    with scope.tenant(endpoint.tenant_id):
        Endpoint.objects.filter(id=endpoint.id).update(state="ready")
    return endpoint


@pytest.fixture
def planned(console, ready) -> AdviceRun:
    """A plan with one move: H100 have become cheap."""
    price_set(kind="gpu_hour", amount=Decimal("0.01"), currency="EUR", gpu_type="h100_sxm")
    console.post(reverse("console:advisor-run"))
    return execute()


def execute() -> AdviceRun:
    with scope.platform("a test"):
        run = AdviceRun.objects.first()
    advice_run_execute(run.id)
    with scope.platform("a test"):
        return AdviceRun.objects.get(id=run.id)


def move_of(run) -> AdviceMove:
    with scope.platform("a test"):
        return AdviceMove.objects.get(run=run)


def test_without_a_plan_the_page_says_what_one_is(console, estate):
    page = console.get(reverse(PAGE)).text
    assert "The fleet was not planned yet" in page
    assert "Nothing is applied unasked." in page


def test_a_run_is_asked_for_and_the_page_waits_for_it(console, ready):
    page = console.post(reverse("console:advisor-run"), follow=True)
    assert "The fleet is being planned anew" in page.text
    assert "hx-trigger" in page.text
    twice = console.post(reverse("console:advisor-run"))
    assert twice.status_code == 409
    assert "being planned already" in twice.text
    state = console.get(page.context["state_url"])
    assert state.status_code == 204
    execute()
    assert console.get(page.context["state_url"])["HX-Refresh"] == "true"


def test_moves_are_shown_with_what_they_save_and_risk(console, planned):
    answer = console.get(reverse(PAGE))
    for text in (
        "0.44 EUR",
        "de-a/h100",
        "l4",
        "Another GPU type",
        "Apply all 1",
        "Acme &lt;b&gt;GmbH&lt;/b&gt;",
    ):
        assert text in answer.text, text
    assert answer.context["totals"][0]["saving"] == "0.44 EUR"
    assert "No placement is" in answer.context["totals"][0]["proven"]
    assert console.get(reverse("console:advisor-result", args=[planned.id])).status_code == 200


def test_the_dashboard_says_that_moves_wait_for_a_decision(console, planned):
    (matter,) = [
        each for each in console.get(reverse("console:home")).context["matters"] if "advisor" in each.title
    ]
    assert matter.title == "The advisor proposes 1 move"
    assert "0.44 EUR per hour" in matter.text
    assert matter.url == reverse(PAGE)


def test_nothing_worth_moving_is_an_answer(console, ready):
    console.post(reverse("console:advisor-run"))
    execute()
    assert "Nothing is worth moving" in console.get(reverse(PAGE)).text


def test_selected_moves_are_applied(console, planned):
    path = reverse("console:advisor-decide", args=[planned.id])
    answer = console.post(path, {"decision": "apply", "move": "1"}, follow=True)
    assert "1 move accepted" in answer.text
    assert "Waiting for its turn" in answer.text
    assert move_of(planned).decided_by == "operator olga@example.org"


def test_all_moves_are_applied_or_dismissed(console, planned):
    path = reverse("console:advisor-decide", args=[planned.id])
    console.post(path, {"decision": "apply-all"})
    assert move_of(planned).state == "accepted"
    answer = console.post(path, {"decision": "dismiss", "move": ["1"]}, follow=True)
    assert "1 move dismissed" in answer.text
    assert console.post(path, {"decision": "apply", "move": "1"}).status_code == 409


@pytest.mark.parametrize(
    "sent",
    [
        {"decision": "apply"},
        {"decision": "apply", "move": ["x", "9" * 30]},
        {"decision": "dance", "move": "1"},
        {},
    ],
)
def test_a_decision_that_says_nothing_is_refused(console, planned, sent):
    answer = console.post(reverse("console:advisor-decide", args=[planned.id]), sent)
    assert answer.status_code == 422
    assert move_of(planned).state == "proposed"


def test_a_page_on_which_somebody_chooses_is_not_taken_away(console, planned):
    seen = console.get(reverse(PAGE)).context["state_url"]
    with scope.platform("a test"):
        AdviceMove.objects.filter(run=planned).update(state_reason="It waits.")
    told = console.get(seen)
    assert "Moves went on meanwhile" in told.text
    assert "HX-Refresh" not in told


def test_an_earlier_plan_says_that_it_is_old(console, planned):
    console.post(reverse("console:advisor-run"))
    execute()
    page = console.get(reverse("console:advisor-result", args=[planned.id])).text
    assert "This is an earlier plan" in page
    assert "Outdated" in page
    assert "The fleet was planned anew." in page


def test_a_failed_plan_is_told(console, ready, monkeypatch):
    console.post(reverse("console:advisor-run"))

    def fail(*_args):
        raise ValueError("no such luck")

    monkeypatch.setattr("clusters.endpoints.advisor.runs.read_fleet", fail)
    with pytest.raises(ValueError, match="luck"):
        execute()
    assert "no such luck" in console.get(reverse(PAGE)).text


def test_many_moves_come_in_pages(console, planned, monkeypatch):
    monkeypatch.setattr("portal.pages.console.advisor.PAGE_SIZE", 2)
    move = move_of(planned)
    with scope.platform("a test"):
        for number in (2, 3):
            move.pk, move.number, move.state = None, number, "dismissed"
            move._state.adding = True
            move.id = AdviceMove().id
            move.save()
    first = console.get(reverse(PAGE))
    assert len(first.context["moves"]) == 2
    assert first.context["moves"][0]["move"].state == "proposed"
    second = console.get(reverse(PAGE) + first.context["older_url"])
    assert len(second.context["moves"]) == 1


POLICY = {
    "least_saving_percent": "5", "least_saving_per_hour": "0.1", "payback_days": "7", "cool_down_hours": "24",
    "concurrent_moves": "3", "solve_limit_s": "30", "automatic": "on", "days": ["5", "6"], "from_hour": "22",
    "until_hour": "6", "automatic_saving_per_hour": "0.5", "moves_per_day": "4", "run_every_hours": "12",
}  # fmt: skip


def test_the_policy_is_set_and_told(console, estate):
    page = console.post(reverse("console:advisor-policy"), POLICY, follow=True).text
    assert "Up to 4 moves a day that save 0.50 per hour or more are applied unasked" in page
    assert "Sat, Sun from 22:00 to 6:00 UTC" in page
    policy = AdvicePolicy.current()
    assert (policy.automatic, policy.days, policy.concurrent_moves) == (True, [5, 6], 3)
    assert 'value="22"' in console.get(reverse("console:advisor-policy")).text


def test_a_policy_out_of_bounds_is_refused_beside_its_field(console, estate):
    answer = console.post(reverse("console:advisor-policy"), POLICY | {"until_hour": "25"})
    assert answer.status_code == 422
    assert answer.context["form"].errors["until_hour"]
    assert not AdvicePolicy.objects.exists()


def test_to_members_of_tenants_none_of_it_exists(client, console, planned):
    client.force_login(make_user("ann@example.org"))
    decide = reverse("console:advisor-decide", args=[planned.id])
    for path in (PAGE, "console:advisor-policy", "console:advisor-state"):
        assert client.get(reverse(path)).status_code == 404
    assert client.get(reverse("console:advisor-result", args=[planned.id])).status_code == 404
    assert client.post(reverse("console:advisor-run")).status_code == 404
    assert client.post(decide, {"decision": "apply-all"}).status_code == 404
    assert move_of(planned).state == "proposed"


def test_what_is_not_there_is_not_found(console, estate):
    missing = "01890000-0000-7000-8000-000000000000"
    assert console.get(reverse("console:advisor-result", args=[missing])).status_code == 404
    assert console.post(reverse("console:advisor-decide", args=[missing])).status_code == 404
