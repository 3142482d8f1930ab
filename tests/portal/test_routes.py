"""Named routes in the portal: made and changed without scripts, shown with shares and saving."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from clusters.endpoints.routes import route_create, rules_of
from clusters.models import NamedRoute
from gateway.contract import RouteRule, RouteTarget
from tenants import scope
from tenants.models import Project
from tests.billing.usage import add_usage

pytestmark = pytest.mark.django_db


@pytest.fixture
def targets(world):
    """Two endpoints, small and large."""
    return world.order("small"), world.order("large")


def typed(*rules: dict, name: str = "smart", **more) -> dict:
    """Give the body of the form for rules, each with its targets as pairs of id and weight."""
    body = {"name": name, "project": "default", "rules": str(len(rules)), **more}
    for number, rule in enumerate(rules):
        for slot, (endpoint, weight) in enumerate(rule.pop("targets")):
            body |= {f"rule-{number}-endpoint_{slot}": str(endpoint), f"rule-{number}-weight_{slot}": weight}
        body |= {f"rule-{number}-{field}": value for field, value in rule.items()}
    return body


def saved(world) -> NamedRoute:
    with scope.tenant(world.tenant.id):
        return NamedRoute.objects.get()


def test_a_route_is_made_and_told_in_words(world, targets):
    small, large = targets
    browser = world.browser("developer")
    body = typed(
        {"max_input_tokens": "2000", "slo_class": "batch", "targets": [(small.id, "1"), ("", "")]},
        {"header": "X-Tier", "header_value": "gold", "targets": [(large.id, "3"), (small.id, "1")]},
        {"targets": [(large.id, "")]},
    )
    page = browser.post("/t/nord/routes/new", body, follow=True)
    route = saved(world)
    assert page.redirect_chain[0][0] == f"/t/nord/routes/{route.id}"
    assert rules_of(route)[0] == RouteRule(
        targets=(RouteTarget(endpoint_id=str(small.id)),), max_input_tokens=2000, slo_class="batch"
    )
    assert rules_of(route)[1].header == "x-tier"
    assert "If the key&#x27;s class is Batch, and the prompt has at most 2,000 tokens" in page.text
    assert "<strong>large 75 %, small 25 %</strong>" in page.text
    assert "Every other request" in page.text
    assert "smart" in browser.get("/t/nord/routes").text


def test_buttons_add_move_and_remove_rules_and_keep_what_was_typed(world, targets):
    small, large = targets
    browser = world.browser("owner")
    rules = [{"min_input_tokens": "x7", "targets": [(small.id, "1")]}, {"targets": [(large.id, "2")]}]

    def press(intent: str):
        body = typed(*({**rule, "targets": list(rule["targets"])} for rule in rules), intent=intent)
        answer = browser.post("/t/nord/routes/new", body)
        assert answer.status_code == 200
        return answer.context["rules"]

    assert [len(each.targets()) for each in press("add")] == [2, 2, 2]
    assert press("add")[0]["min_input_tokens"].value() == "x7"
    assert [each["endpoint_0"].value() for each in press("up-1")] == [str(large.id), str(small.id)]
    assert [each["endpoint_0"].value() for each in press("remove-0")] == [str(large.id)]
    assert len(press("more-1")[1].targets()) == 2
    with scope.tenant(world.tenant.id):
        assert not NamedRoute.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Bad Name"}, {"name": "small"}, {"rule-0-min_input_tokens": "9", "rule-0-max_input_tokens": "8"},
        {"rule-0-endpoint_0": ""}, {"rule-0-endpoint_0": "01890000-0000-7000-8000-000000000000"},
        {"rule-0-header": "authorization", "rule-0-header_value": "x"}, {"rules": "0"}, {"rules": "x"},
        {"intent": "remove-99"}, {"intent": "explode", "name": ""}, {"project": "nobody"},
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_and_nothing_saved(world, targets, change):
    body = typed({"min_input_tokens": "3", "targets": [(targets[0].id, "1")]}) | change
    if change == {"intent": "remove-99"}:
        body["name"] = ""
    answer = world.browser("owner").post("/t/nord/routes/new", body)
    assert answer.status_code == 422
    with scope.tenant(world.tenant.id):
        assert not NamedRoute.objects.exists()


@pytest.fixture
def route(world, targets):
    small, large = targets
    with scope.tenant(world.tenant.id):
        return route_create(
            project=Project.objects.get(),
            name="smart",
            rules=[
                RouteRule(targets=(RouteTarget(endpoint_id=str(small.id)),), max_input_tokens=100),
                RouteRule(targets=(RouteTarget(endpoint_id=str(large.id)),)),
            ],
        )


def test_a_route_is_changed_and_deleted_once_confirmed(world, route, targets):
    browser = world.browser("owner")
    path = f"/t/nord/routes/{route.id}"
    form = browser.get(f"{path}/edit")
    assert [each["endpoint_0"].value() for each in form.context["rules"]] == [
        str(each.id) for each in targets
    ]
    browser.post(f"{path}/edit", typed({"targets": [(targets[1].id, "1")]}, name="renamed"))
    assert (saved(world).name, len(rules_of(saved(world)))) == ("renamed", 1)
    assert browser.post(f"{path}/delete", {"confirm": "smart"}).status_code == 422
    assert "is deleted" in browser.post(f"{path}/delete", {"confirm": "renamed"}, follow=True).text
    assert browser.get(path).status_code == 404


def test_shares_and_the_saving_are_shown_to_those_who_see_cost(world, route, targets):
    small, large = targets
    with scope.tenant(world.tenant.id):
        project = Project.objects.get()
    for endpoint, requests in ((small, 3), (large, 1)):
        add_usage(
            project, at=timezone.now() - dt.timedelta(hours=1), endpoint_id=endpoint.id, requests=requests,
            input_tokens=500_000, model="berth-docs-ngram", slo_class="standard", route_id=route.id,
        )  # fmt: skip
    page = world.browser("owner").get(f"/t/nord/routes/{route.id}?range=7d")
    shown = {target.name: target.cost for target in page.context["targets"]}
    assert [shown[name].request_share for name in ("small", "large")] == [3 / 4, 1 / 4]
    assert "75 %" in page.text
    assert "Saved" in page.text
    viewer = world.browser("viewer").get(f"/t/nord/routes/{route.id}")
    assert viewer.context["costs"] is None
    assert "Saved" not in viewer.text


def test_a_target_that_is_gone_is_told(world, route, targets):
    browser = world.browser("owner")
    browser.post(f"/t/nord/endpoints/{targets[0].id}/delete", {"confirm": "small"})
    with scope.platform("a test"):
        targets[0].deleted_at = timezone.now()
        targets[0].save(update_fields=["deleted_at"])
    page = browser.get(f"/t/nord/routes/{route.id}").text
    assert "an endpoint that is gone" in page
    assert "no longer named" not in browser.get("/t/nord/routes").text


def test_routes_take_as_many_queries_for_many_as_for_one(
    world, route, targets, django_assert_max_num_queries
):
    browser = world.browser("owner")
    browser.get("/t/nord/routes")
    with django_assert_max_num_queries(30) as few:
        browser.get("/t/nord/routes")
    with scope.tenant(world.tenant.id):
        for number in range(3):
            route_create(project=Project.objects.get(), name=f"more-{number}", rules=rules_of(route))
    with django_assert_max_num_queries(len(few)):
        browser.get("/t/nord/routes")
