"""Watching loads: what is learnt, when it drifts and when it does no more, and that nothing is written for nothing."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusters.endpoints import services, tasks
from clusters.endpoints.load.correction import performance_of
from clusters.endpoints.load.measured import endpoint_keep_order, figure, load_of
from clusters.endpoints.load.observing import PRICED, load_observe
from clusters.endpoints.load.running import Running
from clusters.endpoints.planning import Market, OrderTerms
from clusters.models import Condition, Endpoint, EndpointEvent, LoadObservation, Revision
from clusters.planning.performance.correction import MOST_FACTOR
from tenants import scope
from tenants.errors import Conflict
from tests.clusters.endpoints.conftest import fresh
from tests.clusters.endpoints.hours import HOUR, add_hours
from tests.clusters.endpoints.loads import rush_of
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

DAYS = 8


@pytest.fixture
def now():
    """Half past an hour, so that the hour before counts as complete."""
    return timezone.now().replace(minute=30, second=0, microsecond=0)


@pytest.fixture
def serving(order, settle, tenant, now):
    """An endpoint ordered for 2 requests per second, which has served for some days."""
    endpoint = settle(order(requests_per_second=2.0))
    long_ago = now - dt.timedelta(days=DAYS)
    with scope.tenant(tenant.id):
        Endpoint.objects.filter(id=endpoint.id).update(ready_at=long_ago)
    with connection.cursor() as cursor, scope.platform("a test"):
        cursor.execute("UPDATE clusters_revision SET created_at = %s", [long_ago])
    return fresh(endpoint)


@pytest.fixture
def look(tenant):
    """Look at an endpoint's load once; give whether anything was news."""

    def look(endpoint, now) -> bool:
        with scope.tenant(tenant.id):
            return load_observe(endpoint=fresh(endpoint), now=now)

    return look


@pytest.fixture
def drifting(tenant):
    """Give the endpoint's condition LoadDrift, None while it has none."""

    def drifting(endpoint) -> Condition | None:
        with scope.tenant(tenant.id):
            return Condition.objects.filter(endpoint=endpoint, type=Condition.Type.LOAD_DRIFT).first()

    return drifting


def observed(tenant, endpoint) -> LoadObservation | None:
    with scope.tenant(tenant.id):
        return load_of(endpoint)


def hours(endpoint, now, count, *, rate=2.0, **shape) -> None:
    """Add hours that end with the last complete one."""
    add_hours(endpoint, until=now.replace(minute=0), hours=count, rate=rate, **shape)


def writes(captured) -> list[str]:
    return [
        query["sql"]
        for query in captured
        if query["sql"].lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))
    ]


def test_the_profile_is_learnt_from_the_endpoints_own_hours(serving, look, drifting, tenant, now):
    hours(serving, now, 30, input_tokens=120, output_tokens=40, cached_tokens=12)
    assert look(serving, now)
    found = observed(tenant, serving)
    assert (found.hours, found.requests) == (30, 30 * 7200)
    assert found.requests_per_second == pytest.approx(2.0)
    assert (found.input_tokens, found.output_tokens) == (120, 40)
    assert (found.input_cv, found.output_cv) == (0, 0)
    assert found.prefix_share == pytest.approx(0.1)
    assert 1 < found.burstiness < 1.3, "no more than chance"
    assert found.drifting_since is None
    assert found.replan is None
    assert drifting(serving) is None


def test_a_second_look_writes_nothing(serving, look, tenant, now):
    hours(serving, now, 30)
    assert look(serving, now)
    before = observed(tenant, serving)
    for later in (now, now + 3 * HOUR):
        with CaptureQueriesContext(connection) as captured:
            assert not look(serving, later)
        assert writes(captured) == []
        assert len(captured) <= 17
    assert observed(tenant, serving).until == before.until
    assert look(serving, now + 24 * HOUR), "what is a day old is written anew"


def test_no_load_is_judged_without_requests_or_before_it_serves(serving, order, look, tenant, now):
    assert not look(serving, now - (DAYS - 0.5) * dt.timedelta(days=1))
    assert observed(tenant, serving) is None
    hours(serving, now, 2, rate=0.01)
    assert not look(serving, now - (DAYS - 0.5) * dt.timedelta(days=1)), "some requests are no load"
    young = order(name="young")
    hours(young, now, 10, rate=100.0)
    assert not look(young, now)


def test_drift_is_set_after_hours_and_priced_and_leaves_the_state_alone(serving, look, drifting, tenant, now):
    rush = rush_of(serving)
    hours(serving, now, 5, rate=rush)
    add_hours(serving, until=now.replace(minute=0) - 5 * HOUR, hours=24, rate=2.0)
    look(serving, now)
    assert drifting(serving) is None, "a rush of five hours is no drift"
    add_hours(serving, until=now.replace(minute=0) + HOUR, hours=1, rate=rush)
    now += HOUR
    assert look(serving, now)
    condition, found = drifting(serving), observed(tenant, serving)
    assert (condition.status, condition.reason) == ("true", "OutsideTheOrder")
    assert f"requests per second {figure(rush)}, ordered 2" in condition.message
    assert found.drifting_since == now.replace(minute=0) - 6 * HOUR
    assert found.requests_per_second == pytest.approx(rush)
    assert found.hours == 6, "learnt from the load that is, not from the one before"
    replan = found.replan
    assert replan["status"] == "placed"
    assert replan["after"]["replicas"] > replan["now"]["replicas"] == 1
    assert float(replan["price_after"]) > float(replan["price_now"]) > 0
    assert replan["now"]["ttft_p95_ms"] is None, "what runs cannot keep up"
    assert replan["in_place"]
    state = fresh(serving)
    assert (state.state, state.generation, state.due_at) == (serving.state, serving.generation, None)
    with scope.tenant(tenant.id):
        assert EndpointEvent.objects.filter(endpoint=serving, kind="load").count() == 1


def test_a_drift_goes_on_until_no_hour_lies_outside(serving, look, drifting, tenant, now):
    hours(serving, now, 6, rate=10.0)
    look(serving, now)
    since = observed(tenant, serving).drifting_since
    for number in range(1, 6):
        now += HOUR
        add_hours(serving, until=now.replace(minute=0), hours=1, rate=2.0)
        look(serving, now)
        assert drifting(serving).status == "true", f"after {number} usual hours"
        assert observed(tenant, serving).drifting_since == since
    now += HOUR
    add_hours(serving, until=now.replace(minute=0), hours=1, rate=2.0)
    assert look(serving, now)
    found = observed(tenant, serving)
    assert (drifting(serving).status, drifting(serving).reason) == ("false", "AsOrdered")
    assert (found.drifting_since, found.drift, found.replan) == (None, [], None)
    assert not look(serving, now)


def test_hours_now_and_then_outside_do_not_flap(serving, look, drifting, now):
    for number in range(12):
        now += HOUR
        add_hours(serving, until=now.replace(minute=0), hours=1, rate=10.0 if number % 2 else 2.0)
        look(serving, now)
        assert drifting(serving) is None


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ({"input_tokens": 400}, "input_tokens"),
        ({"input_tokens": 40}, "input_tokens"),
        ({"output_tokens": 150}, "output_tokens"),
        ({"cached_tokens": 60}, "prefix_share"),
        ({"rate": 3.0}, "requests_per_second"),
    ],
)
def test_lengths_and_mix_drift_like_rates(serving, look, drifting, tenant, now, shape, name):
    hours(serving, now, 8, **shape)
    look(serving, now)
    assert [part["name"] for part in observed(tenant, serving).drift] == [name]
    assert name.replace("_", " ") in drifting(serving).message


def test_what_is_near_the_order_is_no_drift(serving, look, drifting, now):
    hours(serving, now, 24, rate=2.4, input_tokens=120, output_tokens=40, cached_tokens=15)
    look(serving, now)
    assert drifting(serving) is None


def test_a_quiet_night_is_no_drift_and_a_quiet_day_is(serving, look, drifting, tenant, now):
    hours(serving, now, 10, rate=0.1)
    add_hours(serving, until=now.replace(minute=0) - 10 * HOUR, hours=14, rate=2.0)
    look(serving, now)
    assert drifting(serving) is None
    now += 14 * HOUR
    add_hours(serving, until=now.replace(minute=0), hours=14, rate=0.1)
    look(serving, now)
    assert drifting(serving).status == "true"
    found = observed(tenant, serving)
    assert found.drift[0]["fallen"]
    assert found.requests_per_second == pytest.approx(0.1)


def test_an_endpoint_that_nobody_calls_any_more_drifts_too(serving, look, drifting, tenant, now):
    look(serving, now)
    assert drifting(serving).status == "true"
    found = observed(tenant, serving)
    assert (found.requests, found.requests_per_second) == (0, 0)
    assert found.input_tokens == serving.input_tokens
    assert found.replan["status"] == "placed"


def test_keeping_the_order_holds_until_the_load_changes_again(serving, look, drifting, tenant, now):
    hours(serving, now, 8, rate=10.0)
    look(serving, now)
    with scope.tenant(tenant.id):
        endpoint_keep_order(endpoint=fresh(serving), actor="ann")
        with pytest.raises(Conflict, match="nothing to keep"):
            endpoint_keep_order(endpoint=fresh(serving), actor="ann")
    assert (drifting(serving).status, drifting(serving).reason) == ("false", "Kept")
    look(serving, now)
    assert drifting(serving).status == "false"
    now += 6 * HOUR
    add_hours(serving, until=now.replace(minute=0), hours=6, rate=11.0)
    look(serving, now)
    assert drifting(serving).reason == "Kept", "near what was kept"
    now += 6 * HOUR
    add_hours(serving, until=now.replace(minute=0), hours=6, rate=30.0)
    look(serving, now)
    assert drifting(serving).status == "true"


def test_the_price_is_asked_for_again_after_some_hours(serving, look, tenant, now):
    hours(serving, now, 12, rate=10.0)
    look(serving, now)
    before = observed(tenant, serving).replan["computed_at"]
    assert not look(serving, now)
    later = now + PRICED
    add_hours(serving, until=later.replace(minute=0), hours=6, rate=10.0)
    assert look(serving, later)
    assert observed(tenant, serving).replan["computed_at"] > before


def test_a_paused_endpoint_is_left_alone(serving, look, tenant, now):
    hours(serving, now, 12, rate=10.0)
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=serving, actor="a test")
    assert not look(serving, now)
    assert observed(tenant, serving) is None


def test_the_sweep_looks_at_all_that_serve_and_one_fault_stops_nobody(
    serving, tenant, now, monkeypatch, caplog
):
    hours(serving, now, 12, rate=10.0)
    asked = []
    monkeypatch.setattr(tasks.observe_loads, "delay", asked.append)
    assert tasks.sweep_loads() == 1
    assert asked == [[[str(tenant.id), str(serving.id)]]]
    assert tasks.observe_loads(asked[0]) == 1
    assert tasks.observe_loads(asked[0]) == 0
    assert tasks.observe_loads([[str(tenant.id), str(uuid.uuid4())]]) == 0
    assert tasks.observe_loads([["no tenant", "no endpoint"], *asked[0]]) == 0
    assert "cannot be judged" in caplog.text


def test_observations_are_their_tenants_alone(serving, look, tenant, now):
    hours(serving, now, 12)
    look(serving, now)
    with scope.tenant(make_tenant("other").id):
        assert LoadObservation.objects.count() == 0
        assert LoadObservation._base_manager.count() == 0
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM clusters_loadobservation")
            assert cursor.fetchone() == (0,)


@pytest.fixture
def predicted(tenant):
    """Predict what requests of the endpoint find, as a plan of it now would."""

    def predicted(endpoint):
        with scope.tenant(tenant.id):
            revision = Revision.objects.select_related("pool").get(endpoint=endpoint)
            running = Running.of_revision(revision, endpoint.model)
            return running.under(OrderTerms.of(endpoint).load, performance_of(endpoint))

    return predicted


def test_measured_latencies_correct_the_model_within_bounds_and_in_words(
    serving, look, tenant, now, predicted
):
    before = predicted(serving)
    hours(serving, now, 12, itl_ms=900.0, ttft_ms=50_000.0)
    look(serving, now)
    found = observed(tenant, serving)
    assert (found.itl_factor, found.ttft_factor) == (MOST_FACTOR, MOST_FACTOR)
    itl, ttft = found.correction["reasons"]
    assert "measured 750 ms between tokens over 12 h and 86,400 requests" in itl
    assert "x2.00, as far as a correction goes" in ttft
    after = predicted(serving)
    assert after.itl_mean_ms == pytest.approx(2 * before.itl_mean_ms, rel=0.01)
    assert after.ttft_mean_ms > 1.5 * before.ttft_mean_ms


def test_few_requests_are_believed_little(serving, look, tenant, now, predicted):
    slow = 1.5 * predicted(serving).itl_mean_ms
    hours(serving, now, 1, rate=1.0, itl_ms=max(slow, 3.0))
    add_hours(serving, until=now.replace(minute=0) - HOUR, hours=30, rate=2.0)
    look(serving, now)
    found = observed(tenant, serving)
    assert 1 < found.itl_factor <= MOST_FACTOR
    assert found.ttft_factor == 1.0
    assert "nothing measured to the first token yet" in found.correction["reasons"][1]


def test_a_plan_of_the_endpoint_uses_its_correction(serving, look, tenant, now):
    with scope.tenant(tenant.id):
        endpoint = fresh(serving)
        plain = Market.read(tenant=tenant, besides=endpoint).plan(OrderTerms.of(endpoint)).configuration
    hours(serving, now, 12, itl_ms=900.0)
    look(serving, now)
    with scope.tenant(tenant.id):
        other = Market.read(tenant=tenant).plan(OrderTerms.of(endpoint)).configuration
        corrected = Market.read(tenant=tenant, besides=endpoint).plan(OrderTerms.of(endpoint)).configuration
    assert other.itl_ms == plain.itl_ms, "other orders are planned without"
    assert corrected.itl_ms == pytest.approx(2 * plain.itl_ms, rel=0.01)
