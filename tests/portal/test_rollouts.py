"""The pages of changes: the form with what would come of it, a rollout with its numbers, the policy of a class."""

from __future__ import annotations

import pytest

from clusters.models import Rollout, SloClass
from tenants import scope
from tests.clusters.endpoints.rollouts import Rolling, canary
from tests.fakes.cluster import FakeCluster

pytestmark = pytest.mark.django_db


@pytest.fixture
def rolling(world, monkeypatch) -> Rolling:
    """An endpoint that serves, in a class with a canary."""
    cluster = FakeCluster(ready_at_once=True)
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *args, **values: cluster)
    canary()
    it = Rolling(estate=world.estate, cluster=cluster, endpoint=world.order())
    it.look(ready=False)
    return it


def url(it: Rolling, rest: str = "") -> str:
    return f"/t/nord/endpoints/{it.endpoint.id}{rest}"


def typed(page) -> dict[str, str]:
    """Give a form as a browser would send it untouched."""
    form = page.context["form"]
    return {name: "" if form[name].value() is None else str(form[name].value()) for name in form.fields}


def test_a_change_is_shown_with_its_price_before_it_is_done(world, rolling):
    browser = world.browser("developer")
    form = typed(browser.get(url(rolling, "/change")))
    assert browser.post(url(rolling, "/change"), form).status_code == 422
    wished = form | {"gpu": "h100_sxm"}
    shown = browser.post(url(rolling, "/change"), wished)
    assert "What would come of it" in shown.text
    assert "Beside what runs; then a canary at 5 %, 25 %, 50 %" in shown.text
    assert "h100_sxm" in shown.text
    assert "per hour" in shown.text.lower()
    with scope.tenant(world.tenant.id):
        assert not Rollout.objects.exists()
    done = browser.post(url(rolling, "/change"), wished | {"do": "change"}, follow=True)
    assert "is being changed." in done.text
    with scope.tenant(world.tenant.id):
        assert Rollout.objects.get().wish["pins"] == {"gpu": "h100_sxm"}


def test_a_rollout_shows_both_revisions_numbers_and_is_promoted_from_its_page(world, rolling):
    rolling.change(pins={"gpu": "h100_sxm"})
    rolling.look(ready=False)
    rolling.both()
    rolling.look(5, ready=False)
    page = world.browser("developer").get(url(rolling)).text
    assert "From revision 1 to revision 2" in page
    assert "5 % of the requests" in page
    assert "First token, p95" in page
    assert "400 requests of the new revision and 400 of the old one" in page
    assert "Promote or roll back" in page
    viewer = world.browser("viewer")
    assert "Promote or roll back" not in viewer.get(url(rolling)).text
    one = url(rolling, f"/rollouts/{rolling.rollout.id}")
    assert "First token, p95" in viewer.get(one).text
    assert "Promote now" not in viewer.get(one).text
    assert "Promote now" in world.browser("developer").get(one).text
    assert viewer.post(f"{one}/promote").status_code == 403
    assert world.browser("stranger").get(one).status_code == 404
    done = world.browser("developer").post(f"{one}/promote", follow=True)
    assert "is served by its new revision alone." in done.text
    assert "Promoted" in viewer.get(url(rolling, "/rollouts")).text


def test_a_failed_update_says_why_and_is_tried_again_or_dismissed(world, rolling):
    browser = world.browser("owner")
    rolling.change(pins={"gpu": "h100_sxm"})
    rolling.look(ready=False)
    rolling.both(ttft_ms=1400)
    rolling.look(5, ready=False)
    page = browser.get(url(rolling)).text
    assert "Update failed" in page
    assert "Its time to first token is above" in page
    assert "Try again" in page
    one = url(rolling, f"/rollouts/{rolling.rollout.id}")
    browser.post(f"{one}/dismiss")
    rolling.look(ready=False)
    assert "Update failed" not in browser.get(url(rolling)).text.split("History")[0]
    browser.post(f"{one}/retry")
    rolling.look(ready=False)
    again = url(rolling, f"/rollouts/{rolling.rollout.id}")
    assert again != one
    assert "goes back to what ran before" in browser.post(f"{again}/rollback", follow=True).text


def test_operators_set_how_endpoints_of_a_class_change(world):
    from tenants.models import PlatformRole
    from tests.factories import make_user

    world.people["olga"] = make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)
    browser = world.browser("olga")
    page = browser.get("/console/slo-classes/standard")
    form = typed(page) | {"rollout_days": [], "rollout_steps": "50, 10", "rollout_ways": "teleport"}
    refused = browser.post("/console/slo-classes/standard", form)
    assert refused.status_code == 422
    assert set(refused.context["form"].errors) == {"rollout_steps", "rollout_ways"}
    wished = form | {"rollout_steps": "10, 50", "rollout_ways": "replace, surge", "rollout_days": ["5", "6"]}
    assert browser.post("/console/slo-classes/standard", wished).status_code == 302
    found = SloClass.objects.get(name="standard")
    assert (found.rollout_steps, found.rollout_ways, found.rollout_days) == (
        [10, 50],
        ["replace", "surge"],
        [5, 6],
    )
