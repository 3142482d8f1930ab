"""The pages of an endpoint's load: measured beside ordered, planning anew, keeping the order, what if."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clusters.endpoints.load.correction import correction_document
from clusters.endpoints.load.measured import load_of
from clusters.models import Endpoint, EndpointState, LoadObservation
from clusters.planning.performance.correction import Correction, Measured, factor
from portal.templatetags.berth import count
from tenants import scope
from tests.clusters.endpoints.hours import add_hours
from tests.clusters.endpoints.loads import observe, rush_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def drifting(world) -> Endpoint:
    """An endpoint whose load is far above the order."""
    endpoint = world.order("chat", requests_per_second=1.0)
    observe(endpoint, requests_per_second=rush_of(endpoint))
    return endpoint


def base(endpoint: Endpoint) -> str:
    return f"/t/nord/endpoints/{endpoint.id}"


def observed(world, endpoint) -> LoadObservation:
    with scope.tenant(world.tenant.id):
        return load_of(endpoint)


def fresh(world, endpoint) -> Endpoint:
    with scope.tenant(world.tenant.id):
        return Endpoint.objects.get(id=endpoint.id)


def test_without_requests_the_page_says_so(world):
    endpoint = world.order("chat")
    text = world.browser("viewer").get(f"{base(endpoint)}/load").text
    assert "Too few requests to learn from" in text
    assert "Measured load differs" not in world.browser("viewer").get(base(endpoint)).text
    assert "Too few requests" in world.browser("owner").get(f"{base(endpoint)}/load/replan").text
    refused = world.browser("owner").post(f"{base(endpoint)}/load/replan")
    assert refused.status_code == 409


def test_measured_stands_beside_ordered_and_the_drift_is_priced(world, drifting):
    page = world.browser("viewer").get(f"{base(drifting)}/load").text
    assert count(rush_of(drifting)) in page
    assert "outside<" in page.replace("\n", "")
    assert "more per hour and keeps the targets" in page
    assert "does not keep up" in page
    assert "Re-plan</a>" not in page, "a viewer changes nothing"
    overview = world.browser("viewer").get(base(drifting)).text
    assert "Measured load differs from the order" in overview
    assert f'href="{base(drifting)}/load"' in overview


def test_a_replan_is_confirmed_with_before_and_after(world, drifting):
    browser = world.browser("developer")
    asked = browser.get(f"{base(drifting)}/load/replan").text
    assert "Before and after" in asked
    assert "Only the number of engines changes." in asked
    assert fresh(world, drifting).generation == drifting.generation
    done = browser.post(f"{base(drifting)}/load/replan", {"generation": drifting.generation}, follow=True)
    assert "is being brought to its measured load" in done.text
    changed = fresh(world, drifting)
    assert changed.requests_per_second == rush_of(drifting)
    assert "by developer@nord.example" in done.text
    stale = browser.post(f"{base(drifting)}/load/replan", {"generation": drifting.generation})
    assert stale.status_code == 412
    assert "is at generation" in stale.text
    again = browser.post(f"{base(drifting)}/load/replan", {"generation": changed.generation})
    assert again.status_code == 409
    assert "Nothing would change" in again.text


def test_the_order_can_be_kept(world, drifting):
    browser = world.browser("developer")
    done = browser.post(f"{base(drifting)}/load/keep", follow=True)
    assert "is kept as ordered until its load changes again" in done.text
    assert "The order is kept" in done.text
    assert observed(world, drifting).kept["requests_per_second"] == rush_of(drifting)
    assert browser.post(f"{base(drifting)}/load/keep").status_code == 409
    assert "Measured load differs" not in browser.get(base(drifting)).text


def test_who_may_not_order_changes_nothing(world, drifting):
    for who, code in (("viewer", 403), ("billing", 403), ("stranger", 404)):
        for path in ("load/replan", "load/keep"):
            assert world.browser(who).post(f"{base(drifting)}/{path}").status_code == code
    assert fresh(world, drifting).generation == drifting.generation
    assert observed(world, drifting).kept is None


def test_the_reasons_of_a_correction_are_told(world, drifting):
    itl = factor([Measured(measured_ms=12, predicted_ms=10, requests=50_000, hours=8)])
    with scope.tenant(world.tenant.id):
        LoadObservation.objects.update(correction=correction_document(Correction(itl=itl)))
    text = world.browser("viewer").get(f"{base(drifting)}/load").text
    assert "Measured 12 ms between tokens over 8 h and 50,000 requests where 10 ms were predicted" in text
    assert "Nothing measured to the first token yet: as predicted." in text


def test_what_if_is_asked_by_address_and_answers_without_changing(world):
    endpoint = world.order("chat")
    browser, path = world.browser("billing"), f"{base(endpoint)}/what-if"
    assert "With the change" not in browser.get(path).text
    text = browser.get(path, {"price_percent": "100"}).text
    assert "With the change it costs 0.45 EUR more per hour." in text
    assert "too little history" in text
    assert "What it holds now would cost 0.90 EUR per hour" in text
    assert fresh(world, endpoint).generation == endpoint.generation


def test_what_if_tells_cost_and_is_for_those_who_may_see_it(world):
    endpoint = world.order("chat")
    for who, may in (("billing", True), ("viewer", False)):
        browser = world.browser(who)
        assert ("Ask what if" in browser.get(f"{base(endpoint)}/load").text) is may
        assert browser.get(f"{base(endpoint)}/what-if").status_code == (200 if may else 403)


def test_what_if_judges_the_hours_that_were(world):
    endpoint = world.order("chat")
    until = timezone.now().replace(minute=0, second=0, microsecond=0)
    add_hours(endpoint, until=until, hours=10, rate=2.0)
    text = world.browser("billing").get(f"{base(endpoint)}/what-if", {"slo_class": "interactive"}).text
    assert "measured in 10 hours with requests of the last 30 days" in text
    assert "100 %" in text


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"price_percent": "-200"}, "greater than or equal to -100"),
        ({"nodes": "2"}, "go together"),
        ({"slo_class": "platinum"}, "Select a valid choice"),
        ({"price_percent": ""}, "nothing was changed"),
    ],
)
def test_what_cannot_be_asked_is_told_at_the_form(world, asked, told):
    endpoint = world.order("chat")
    answer = world.browser("billing").get(f"{base(endpoint)}/what-if", asked)
    assert answer.status_code == 422
    assert told in answer.text


def test_a_place_where_nothing_stands_is_told_with_its_reason(world):
    endpoint = world.order("chat", requests_per_second=1.0)
    with scope.tenant(world.tenant.id):
        Endpoint.objects.filter(id=endpoint.id).update(state=EndpointState.READY, certifications=["C5"])
    answer = world.browser("billing").get(f"{base(endpoint)}/what-if", {"residency": "region:us-east-1"})
    assert "With the change it could not be placed" in answer.text
    assert "cannot be placed" in answer.text
