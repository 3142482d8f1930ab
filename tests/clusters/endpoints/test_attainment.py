"""Days of endpoints against the targets of their class: written once, judged anew when usage is late."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from billing.attainment import attainment_month, attainment_months, attainments
from billing.models import Attainment, Statement
from clusters.endpoints.attainment import attainment_keep
from clusters.inventory.slo_classes import slo_class_change
from clusters.models import SloClass
from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS
from tenants import scope
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, management_key

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 5, 20, 14, 30, tzinfo=dt.UTC)
DAY = dt.date(2026, 5, 20)


def within(bounds, ms: float, requests: int) -> list[int]:
    """Put all requests into the bucket that ends at ``ms``."""
    return [requests if bound == ms else 0 for bound in bounds] + [0]


def used(endpoint, at=NOW, *, ttft=300, itl=30, **counts):
    """Note requests whose first token came within ``ttft`` ms, the following within ``itl`` ms."""
    requests = counts.get("requests", 1)
    histograms = {
        "ttft_ms": within(LATENCY_BOUNDS_MS, ttft, requests), "itl_ms": within(ITL_BOUNDS_MS, itl, requests),
    }  # fmt: skip
    if counts.get("outcome", "completed") != "completed":
        histograms = {}
    project = counts.pop("project", endpoint.project)
    facts = {"slo_class": endpoint.slo_class.name, "endpoint_id": endpoint.id} | counts
    add_usage(project, at=at, **facts, **histograms)


@pytest.fixture
def endpoint(order):
    with scope.platform("set targets"):
        slo_class_change(
            slo_class=SloClass.objects.get(name="standard"), ttft_p95_ms=500, itl_p95_ms=40,
            availability=Decimal("0.999"),
        )  # fmt: skip
    return order()


def row(endpoint, day=DAY) -> Attainment:
    with scope.tenant(endpoint.tenant_id):
        return Attainment.objects.get(endpoint_id=endpoint.id, day=day)


def test_a_day_is_judged_by_its_hours(endpoint):
    used(endpoint, NOW, requests=90)
    used(endpoint, NOW, requests=10, outcome="failed")
    used(endpoint, NOW - dt.timedelta(hours=1), ttft=750)
    used(endpoint, NOW - dt.timedelta(hours=2), itl=80)
    assert attainment_keep(now=NOW) == 1
    found = row(endpoint)
    assert (found.requests, found.failed, found.hours, found.ttft_met, found.itl_met) == (102, 10, 3, 2, 2)
    assert (found.slo_class, found.ttft_p95_ms, found.itl_p95_ms) == ("standard", 500, 40)
    assert found.project_id == endpoint.project_id


def test_what_is_settled_is_not_written_again(endpoint, django_assert_num_queries):
    used(endpoint)
    assert [attainment_keep(now=NOW), attainment_keep(now=NOW)] == [1, 0]


def test_refused_and_cancelled_requests_do_not_count(endpoint):
    used(endpoint, outcome="refused", requests=5)
    used(endpoint, outcome="cancelled", requests=5)
    assert attainment_keep(now=NOW) == 0
    used(endpoint)
    attainment_keep(now=NOW)
    assert (row(endpoint).requests, row(endpoint).failed) == (1, 0)


def test_requests_of_a_lower_class_are_not_judged_by_the_endpoints(endpoint):
    used(endpoint)
    used(endpoint, slo_class="batch", ttft=30_000, requests=7)
    attainment_keep(now=NOW)
    assert (row(endpoint).requests, row(endpoint).ttft_met) == (1, 1)
    assert attainment_keep(now=NOW) == 0


def test_an_hour_in_which_everything_failed_met_nothing(endpoint):
    used(endpoint, outcome="failed", requests=4)
    attainment_keep(now=NOW)
    found = row(endpoint)
    assert (found.hours, found.ttft_met, found.itl_met) == (1, 0, 0)


def test_answers_of_one_token_meet_the_time_between_tokens(endpoint):
    add_usage(
        endpoint.project, at=NOW, endpoint_id=endpoint.id, slo_class="standard",
        ttft_ms=within(LATENCY_BOUNDS_MS, 300, 1),
    )  # fmt: skip
    attainment_keep(now=NOW)
    assert row(endpoint).itl_met == 1


def test_late_usage_is_judged_anew_by_the_targets_of_then(endpoint):
    earlier = NOW - dt.timedelta(days=5)
    used(endpoint, earlier)
    attainment_keep(now=earlier)
    with scope.platform("change a class"):
        slo_class_change(slo_class=SloClass.objects.get(name="standard"), ttft_p95_ms=100)
    used(endpoint, earlier, requests=2)
    used(endpoint, NOW)
    assert attainment_keep(now=NOW) == 2
    late, today = row(endpoint, earlier.date()), row(endpoint)
    assert (late.requests, late.ttft_p95_ms, late.ttft_met) == (3, 500, 1)
    assert (today.requests, today.ttft_p95_ms, today.ttft_met) == (1, 100, 0)


def test_a_month_whose_statement_is_final_stays_as_it_is(endpoint):
    april = NOW - dt.timedelta(days=25)
    used(endpoint, april)
    attainment_keep(now=april)
    with scope.tenant(endpoint.tenant_id):
        Statement.objects.create(
            month=dt.date(2026, 4, 1), state="final", number="2026-04-000001", currency="EUR", period_start=april,
            period_end=NOW, total=0, computed_at=NOW, finalized_at=NOW, inputs_sha256="0" * 64,
            document_sha256="0" * 64,
        )  # fmt: skip
    used(endpoint, april, requests=5)
    assert attainment_keep(now=NOW) == 0
    assert row(endpoint, april.date()).requests == 1


def test_who_uses_a_shared_endpoint_has_days_of_its_own(endpoint):
    other = make_tenant()
    used(endpoint, requests=2)
    used(endpoint, requests=3, project=default_project(other))
    assert attainment_keep(now=NOW) == 2
    assert row(endpoint).requests == 2
    with scope.tenant(other.id):
        (theirs,) = attainments(start=DAY, end=DAY + dt.timedelta(days=1))
        assert (theirs.endpoint_id, theirs.judgement.requests) == (endpoint.id, 3)


def test_a_month_is_judged_from_its_days(endpoint):
    for day in range(3):
        used(endpoint, NOW - dt.timedelta(days=day), requests=999)
    used(endpoint, outcome="failed", requests=3)
    used(endpoint, NOW - dt.timedelta(days=25), outcome="failed", requests=9)
    attainment_keep(now=NOW)
    with scope.tenant(endpoint.tenant_id):
        found = attainment_month(endpoint_id=endpoint.id, month=DAY)
        assert (found.requests, found.failed, found.kept) == (3000, 3, True)
        april = attainment_months(month=dt.date(2026, 4, 30))[endpoint.id]
        assert (april.requests, april.kept, april.credit_percent) == (9, False, 10)
        assert attainment_month(endpoint_id=uuid.uuid4(), month=DAY).kept is None


def test_the_month_is_told_by_rest(endpoint):
    used(endpoint, requests=98)
    used(endpoint, outcome="failed", requests=2)
    attainment_keep(now=NOW)
    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(endpoint.tenant, 'viewer')}")
    found = caller.get("/api/v1/slo-attainment", {"month": "2026-05"}).json()
    (told,) = found["results"]
    assert (found["month"], told["endpoint"], told["kept"], told["missed"]) == (
        "2026-05", "chat", False, ["availability"],
    )  # fmt: skip
    assert (told["availability"], told["availability_target"], told["credit_percent"]) == (
        0.98,
        0.999,
        "10.00",
    )
    assert (told["ttft_share"], told["ttft_p95_ms"], len(told["days"])) == (1.0, 500, 1)
    assert caller.get("/api/v1/slo-attainment", {"month": "2026-04"}).json()["results"] == []
    assert caller.get("/api/v1/slo-attainment", {"month": "May"}).status_code == 422
    stranger = APIClient()
    stranger.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(make_tenant(), 'owner')}")
    assert stranger.get("/api/v1/slo-attainment", {"month": "2026-05"}).json()["results"] == []
    assert APIClient().get("/api/v1/slo-attainment").status_code == 401
