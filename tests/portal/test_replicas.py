"""The page of an endpoint's replicas: who decides, bounds, schedules, decisions."""

from __future__ import annotations

import pytest
from django.utils import timezone

from clusters.models import Cluster, Endpoint, EndpointScaling, ScaleSchedule, ScalingDecision
from tenants import scope

pytestmark = pytest.mark.django_db

NIGHT = {
    "name": "Night", "days": ["1", "2"], "from_time": "20:00", "until_time": "07:00", "time_zone": "Europe/Berlin",
    "floor": "0", "ceiling": "",
}  # fmt: skip


@pytest.fixture
def endpoint(world) -> Endpoint:
    return world.order(slo_class="batch")


def url(endpoint: Endpoint, rest: str = "replicas") -> str:
    return f"/t/nord/endpoints/{endpoint.id}/{rest}"


def scaling(world, endpoint: Endpoint) -> EndpointScaling:
    with scope.tenant(world.tenant.id):
        return EndpointScaling.objects.get(endpoint=endpoint)


def test_bounds_are_set_on_the_page_and_their_price_is_shown(world, endpoint):
    browser = world.browser("developer")
    before = browser.get(url(endpoint)).text
    assert "They do not follow the load" in before
    after = browser.post(
        url(endpoint), {"enabled": "on", "floor": "0", "ceiling": "3", "idle_minutes": "20"}, follow=True
    ).text
    assert "Berth chooses" in after
    assert "per hour" in after
    found = scaling(world, endpoint)
    assert (found.enabled, found.floor, found.ceiling, found.idle_s) == (True, 0, 3, 1200)


def test_wrong_bounds_stay_on_the_form(world, endpoint):
    answer = world.browser("owner").post(url(endpoint), {"enabled": "on", "floor": "5", "ceiling": "2"})
    assert answer.status_code == 422
    assert set(answer.context["form"].errors) == {"floor"}


def test_a_class_that_keeps_one_offers_no_zero(world):
    page = world.browser("owner").get(url(world.order(slo_class="interactive")))
    assert "idle_minutes" not in page.context["form"].fields
    assert "keeps at least 1" in page.text


def test_a_schedule_is_added_changed_and_taken_away(world, endpoint):
    browser = world.browser("developer")
    assert browser.get(url(endpoint, "schedules/new")).status_code == 200
    listed = browser.post(url(endpoint, "schedules/new"), NIGHT, follow=True).text
    assert "Mon, Tue, 20:00 to 07:00 (Europe/Berlin)" in listed
    with scope.tenant(world.tenant.id):
        schedule = ScaleSchedule.objects.get()
    path = url(endpoint, f"schedules/{schedule.id}")
    assert browser.get(path).context["form"]["days"].value() == [1, 2]
    wrong = browser.post(path, NIGHT | {"time_zone": "Mars"})
    assert set(wrong.context["form"].errors) == {"time_zone"}
    browser.post(path, NIGHT | {"days": ["6", "7"]})
    assert "Sat and Sun" in browser.get(url(endpoint)).text
    browser.post(path, {"remove": "1"})
    with scope.tenant(world.tenant.id):
        assert not ScaleSchedule.objects.exists()


def test_decisions_say_why_and_at_which_price(world, endpoint):
    with scope.tenant(world.tenant.id):
        common = {"endpoint": endpoint, "at": timezone.now(), "revision": 1, "why": "load", "currency": "EUR"}
        ScalingDecision.objects.create(
            before=1, after=3, outcome="done", reason="40 requests.", price_before=1, price_after=3, **common
        )
        ScalingDecision.objects.create(
            before=3, after=5, outcome="refused", reason="The quota.", price_before=3, price_after=5, **common
        )
    text = world.browser("viewer").get(url(endpoint)).text
    assert "40 requests." in text
    assert "1.00 EUR to 3.00 EUR" in text
    assert "Not possible" in text


def test_where_the_cluster_decides_there_is_nothing_to_set(world, endpoint):
    Cluster.objects.update(autoscaler=Cluster.Autoscaler.HPA)
    page = world.browser("owner").get(url(endpoint))
    assert "The autoscaler of its cluster (HPA) chooses" in page.text
    assert "Follow the load" not in page.text


def test_viewers_see_it_and_change_nothing(world, endpoint):
    browser = world.browser("viewer")
    assert "Follow the load" not in browser.get(url(endpoint)).text
    assert browser.post(url(endpoint), {"enabled": "on"}).status_code == 403
    assert browser.get(url(endpoint, "schedules/new")).status_code == 403


def test_scaling_by_hand_says_that_it_turns_this_off(world, endpoint):
    browser = world.browser("owner")
    browser.post(url(endpoint), {"enabled": "on", "ceiling": "3"})
    assert "turns that off" in browser.get(url(endpoint, "scale")).text
    browser.post(url(endpoint, "scale"), {"replicas": "1"})
    assert not scaling(world, endpoint).enabled


def test_an_order_may_follow_the_load(world):
    browser = world.browser("developer")
    values = browser.get("/t/nord/order").context["form"].data.dict()
    browser.post("/t/nord/order", values | {"follow_load": "on", "name": "follows"})
    with scope.tenant(world.tenant.id):
        assert Endpoint.objects.get(name="follows").scaling.enabled
