"""Endpoints of all tenants, and the dashboard's figures."""

from __future__ import annotations

import pytest
from django.urls import reverse

from clusters.endpoints import services
from clusters.models import Cluster, Endpoint, EndpointState
from tenants import scope
from tests.factories import default_project, make_tenant


@pytest.fixture
def other(estate):
    """An endpoint of another tenant, in another class and in trouble."""
    globex = make_tenant("globex", name="Globex")
    project = default_project(globex)
    with scope.tenant(globex.id):
        endpoint = services.endpoint_order(
            project=project, name="night", terms=estate.terms(slo_class="batch"), actor="a test"
        )
        Endpoint.objects.filter(id=endpoint.id).update(
            state=EndpointState.FAILED, state_reason="The engine left."
        )
    return endpoint


def names(answer) -> list[str]:
    return [endpoint.name for endpoint in answer.context["endpoints"]]


def test_endpoints_of_all_tenants_are_listed_and_filtered(console, endpoint, other):
    path = reverse("console:endpoints")
    assert names(console.get(path)) == ["night", "chat"]
    assert names(console.get(path, {"tenant": "acme"})) == ["chat"]
    assert names(console.get(path, {"state": "failed"})) == ["night"]
    assert names(console.get(path, {"slo_class": "standard"})) == ["chat"]
    assert names(console.get(path, {"cluster": "us-a"})) == []
    assert "No endpoint matches" in console.get(path, {"state": "paused"}).text


def test_an_unknown_filter_value_is_told(console, endpoint):
    answer = console.get(reverse("console:endpoints"), {"tenant": "nobody"})
    assert answer.status_code == 422
    assert names(answer) == ["chat"]


def test_many_endpoints_come_in_pages(console, endpoint, other, monkeypatch):
    monkeypatch.setattr("portal.pages.console.endpoints.PAGE_SIZE", 1)
    answer = console.get(reverse("console:endpoints"), {"state": ""})
    assert names(answer) == ["night"]
    older = console.get(reverse("console:endpoints") + answer.context["older_url"])
    assert names(older) == ["chat"]
    assert older.context["newer_url"] == "?page=1"


def test_one_endpoint_is_shown_with_its_plan_and_history(console, endpoint):
    page = console.get(reverse("console:endpoint", args=[endpoint.id])).text
    texts = ("Ordered berth-docs-ngram", "by ann@example.org", "Placed: true", "zone:EU", "Plan, revision 1",
             "Techniques", "Chunked prefill", "Headroom", "own numbers", "What was ruled out")  # fmt: skip
    for text in texts:
        assert text in page


def test_htmx_gets_what_changes_only(console, endpoint):
    answer = console.get(reverse("console:endpoint", args=[endpoint.id]), headers={"HX-Request": "true"})
    assert "Conditions" in answer.text
    assert "<html" not in answer.text


def test_the_console_changes_no_endpoint(console, endpoint):
    assert console.post(reverse("console:endpoint", args=[endpoint.id])).status_code == 405


def test_an_engine_that_never_started_has_no_log(console, endpoint):
    assert console.get(reverse("console:endpoint-log", args=[endpoint.id, "r-0"])).status_code == 404


def test_the_dashboard_names_what_is_in_trouble(console, endpoint, other, estate):
    Cluster.objects.filter(name="us-a").update(state="unreachable", state_reason="No answer in 5 s.")
    answer = console.get(reverse("console:home"))
    titles = [matter.title for matter in answer.context["matters"]]
    assert "Cluster us-a does not answer" in titles
    assert "night of Globex: failed" in titles
    assert {row["state"]: row["count"] for row in answer.context["states"]} == {
        "provisioning": 1,
        "failed": 1,
    }


def test_gpus_held_free_and_reserved_add_up(console, endpoint):
    context = console.get(reverse("console:home")).context
    for row in [*context["pools"], *context["types"]]:
        assert row["held"] + row["reserve"] + row["free"] == row["total"]
    assert sum(row["held"] for row in context["pools"]) >= 1
    assert sum(row["total"] for row in context["types"]) == 24
