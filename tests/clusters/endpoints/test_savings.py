"""What endpoints could save: found from what they held and served, with the money by hand; put off by people."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.models import ClusterDay, EndpointDay
from clusters.endpoints import placement
from clusters.endpoints.savings.keeping import saving_dismiss, savings_keep
from clusters.endpoints.savings.selectors import savings_list, savings_of, totals
from clusters.endpoints.services import endpoint_order
from clusters.models import Endpoint, LoadObservation, Saving
from tenants import scope
from tenants.errors import Invalid
from tests.estate import make_estate
from tests.factories import default_project, make_tenant

D = Decimal
NOW = timezone.now().replace(hour=12)
TODAY = NOW.astimezone(dt.UTC).date()


@pytest.fixture
def estate(db):
    return make_estate()


@pytest.fixture
def acme(estate):
    return make_tenant("acme", gpus=16)


def order(estate, tenant, name: str = "chat", **terms) -> Endpoint:
    with scope.tenant(tenant.id):
        endpoint = endpoint_order(
            project=default_project(tenant), name=name, terms=estate.terms(**terms), actor="test"
        )
        Endpoint.objects.filter(id=endpoint.id).update(ready_at=NOW - dt.timedelta(days=30))
    return endpoint


def hold(endpoint: Endpoint, *, idle_hours: int, requests: int = 100, days: int = 7) -> None:
    """Let it have held two GPUs for whole days at 3 an hour, asset cost 1."""
    with scope.platform("a test"):
        revision = placement.current_revision(endpoint)
        for back in range(1, days + 1):
            EndpointDay.objects.create(
                tenant_id=endpoint.tenant_id, day=TODAY - dt.timedelta(days=back), project_id=endpoint.project_id,
                endpoint_id=endpoint.id, revision_id=revision.id, cluster=revision.cluster.name, region="eu-de-1",
                pool="l4", gpu_type=revision.gpu_type, currency="EUR", asset_currency="EUR", held=48 * 3600,
                idle=2 * idle_hours * 3600, serving=2 * (24 - idle_hours) * 3600, requests=requests, amount=144,
                asset_cost=48, idle_asset_cost=2 * idle_hours,
            )  # fmt: skip


def observe(endpoint: Endpoint, *, requests_per_second: float = 0.01) -> None:
    with scope.tenant(endpoint.tenant_id):
        LoadObservation.objects.create(
            tenant_id=endpoint.tenant_id, endpoint=endpoint, since=NOW - dt.timedelta(days=7), until=NOW, hours=100,
            requests=3_000, requests_per_second=requests_per_second, input_tokens=100, output_tokens=50,
        )  # fmt: skip


def found(**options) -> list:
    savings_keep(now=NOW, everything=True)
    with scope.platform("a test"):
        return savings_list(now=NOW, **options)


def test_an_idle_endpoint_is_told_with_its_money(estate, acme):
    hold(order(estate, acme), idle_hours=12)
    (row,) = found()
    assert (row.kind, row.endpoint, row.tenant, row.currency) == ("idle", "chat", "acme", "EUR")
    # Half of 7 x 144 in 7 days, for 30; the owner's is 7 x 24 in 7 days.
    assert row.amount == D(72) * 30
    assert (row.asset_amount, row.asset_currency) == (D(24) * 30, "EUR")
    assert row.gpu_hours == D(24) * 30
    assert "168.0 of them lay in hours in which it got no request" in row.how[0]


def test_an_endpoint_that_nobody_calls_is_to_be_deleted(estate, acme):
    hold(order(estate, acme), idle_hours=24, requests=0)
    (row,) = found()
    assert row.what.startswith("No request in 7 days")
    assert row.amount == D(144) * 30


@pytest.mark.parametrize(
    ("idle_hours", "days", "changes"),
    [(6, 7, {}), (24, 2, {}), (24, 7, {"wanted": "paused"}), (24, 7, {"shared": True})],
)
def test_little_idle_time_few_days_paused_and_shared_endpoints_are_no_findings(
    estate, acme, idle_hours, days, changes
):
    endpoint = order(estate, acme)
    hold(endpoint, idle_hours=idle_hours, days=days)
    with scope.tenant(acme.id):
        Endpoint.objects.filter(id=endpoint.id).update(**changes)
    assert found() == []


def test_more_replicas_than_the_load_needs(estate, acme):
    endpoint = order(estate, acme, replicas=3, pins={"gpu": "l4"})
    observe(endpoint)
    hold(endpoint, idle_hours=0)
    (row,) = found()
    with scope.platform("a test"):
        price = D(placement.current_revision(endpoint).plan["configuration"]["price_per_hour"])
    needs = next(each for each in (1, 2) if f"needs {each} x 1 l4" in row.what)
    assert row.kind == "oversized"
    assert row.what.endswith("holds 3 x 1 l4.")
    assert row.amount == round(price / 3 * (3 - needs) * 720, 4)
    assert row.gpu_hours == (3 - needs) * 720
    assert row.asset_amount == (3 - needs) * 720  # 1 an hour
    assert "Measured in 100 hours with 3,000 requests" in row.how[0]


def test_a_cheaper_gpu_type_that_is_free_and_lawful(estate, acme):
    endpoint = order(estate, acme, pins={"gpu": "h100_sxm"}, replicas=1)
    observe(endpoint)
    hold(endpoint, idle_hours=0)
    with scope.platform("a test"):
        Endpoint.objects.filter(id=endpoint.id).update(pins={})
        for cluster in ("de-a", "fi-a"):
            ClusterDay.objects.create(
                bucket=dt.datetime.combine(TODAY, dt.time(), tzinfo=dt.UTC) - dt.timedelta(days=1), cluster=cluster,
                region="r", pool="l4", gpu_type="l4", seen=3600, held=3600, serving=3600, currency="EUR",
                cost=D("0.25"), held_cost=D("0.25"),
            )  # fmt: skip
    (row,) = found(kind="cheaper-gpu")
    assert " l4 in " in row.what
    assert "us-a" not in row.what  # ordered for the EU
    assert row.asset_amount == round((D(1) - D("0.25")) * 720, 4)
    assert any("Its residency, zone:EU, allows" in text for text in row.how)


def test_a_finding_that_holds_no_more_goes(estate, acme):
    endpoint = order(estate, acme)
    hold(endpoint, idle_hours=12)
    assert len(found()) == 1
    with scope.platform("a test"):
        EndpointDay.objects.update(idle=0)
    assert found() == []


def test_looking_again_keeps_since_when_it_was_found_and_who_put_it_off(estate, acme):
    hold(order(estate, acme), idle_hours=12)
    (row,) = found()
    with scope.tenant(acme.id):
        saving = Saving.objects.get()
        until = NOW + dt.timedelta(days=10)
        saving_dismiss(saving=saving, reason="A launch next week", until=until, actor="ann", now=NOW)
    assert found() == []
    (put_off,) = found(dismissed=True)
    assert (put_off.since, put_off.dismissed_reason) == (row.since, "A launch next week")
    with scope.platform("a test"):
        assert len(savings_list(now=until)) == 1


@pytest.mark.parametrize(
    ("reason", "days", "field"), [(" ", 10, "reason"), ("why", 0, "until"), ("why", 1000, "until")]
)
def test_putting_off_needs_a_reason_and_an_end(estate, acme, reason, days, field):
    hold(order(estate, acme), idle_hours=12)
    found()
    with scope.tenant(acme.id), pytest.raises(Invalid) as refused:
        saving_dismiss(
            saving=Saving.objects.get(),
            reason=reason,
            until=NOW + dt.timedelta(days=days),
            actor="ann",
            now=NOW,
        )
    assert field in refused.value.errors


def test_a_tenant_sees_its_own_and_what_counts_once_is_summed_once(estate, acme):
    other = make_tenant("other", gpus=8)
    mine = order(estate, acme, replicas=2, pins={"gpu": "l4"})
    observe(mine)
    hold(mine, idle_hours=12)
    hold(order(estate, other, name="mail"), idle_hours=12)
    rows = found()
    with scope.tenant(acme.id):
        own = savings_of(now=NOW)
    assert {row.tenant for row in own} == {"acme"}
    assert len(rows) == len(own) + 1
    assert totals(own) == {"EUR": max(row.amount for row in own)}


def test_each_endpoint_has_its_turn_within_six_hours(estate, acme):
    hold(order(estate, acme), idle_hours=12)
    turns = [savings_keep(now=NOW + dt.timedelta(hours=hour)) for hour in range(6)]
    assert sum(turns) == 1
