"""Commitments as operators agree on them, and how a running month has used them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import Error, transaction

from billing.commitments import commitment_create, commitment_end_early, commitments_use
from billing.models import Commitment, SharedPeriod
from tenants import scope
from tenants.errors import Invalid
from tests.billing.prices import hold, label, utc
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
NOW = utc("2026-03-10T12:00")
D = Decimal


@pytest.fixture
def acme():
    return make_tenant("acme", time_zone="Europe/Berlin")


def commit(tenant, **changes) -> Commitment:
    facts = {
        "name": "Four H100", "gpu_type": "h100_sxm", "gpus": 4, "rate": D("2.50"),
        "starts_at": utc("2026-03-05"), "ends_at": utc("2027-03-05"),
    }  # fmt: skip
    return commitment_create(tenant=tenant, now=NOW, **(facts | changes))


def use(tenant, now: dt.datetime):
    with scope.tenant(tenant.id):
        return commitments_use(now=now)


def test_a_commitment_is_the_tenants_in_its_currency(acme):
    made, other = commit(acme), make_tenant("other")
    assert (made.currency, made.region) == ("EUR", "")
    with scope.tenant(acme.id):
        assert list(Commitment.objects.all()) == [made]
    with scope.tenant(other.id):
        assert list(Commitment.objects.all()) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gpus": 0}, "gpus"),
        ({"gpus": 1_000_001}, "gpus"),
        ({"rate": D("-0.01")}, "rate"),
        ({"rate": D("NaN")}, "rate"),
        ({"currency": "USD"}, "currency"),
        ({"name": " "}, "name"),
        ({"gpu_type": ""}, "gpu_type"),
        ({"starts_at": utc("2026-02-28T22:59")}, "starts_at"),  # before the month began in Berlin
        ({"starts_at": dt.datetime(2026, 4, 1)}, "starts_at"),
        ({"ends_at": utc("2026-03-05")}, "ends_at"),
        ({"ends_at": utc("2026-03-09")}, "ends_at"),
    ],
)
def test_what_cannot_be_agreed_is_refused_by_field(acme, changes, field):
    with pytest.raises(Invalid) as refused:
        commit(acme, **changes)
    assert list(refused.value.errors) == [field]


def test_it_may_begin_with_the_running_month(acme):
    assert commit(acme, starts_at=utc("2026-02-28T23:00")).starts_at == utc("2026-02-28T23:00")


def test_only_its_end_moves_and_only_to_an_earlier_time_that_has_not_passed(acme):
    made = commit(acme)
    for moment, complaint in (
        (utc("2028-01-01"), "ends anyway"),
        (NOW - dt.timedelta(hours=1), "in the past"),
        (dt.datetime(2026, 4, 1), "time zone"),
    ):
        with pytest.raises(Invalid, match=complaint):
            commitment_end_early(commitment=made, ends_at=moment, now=NOW)
    assert commitment_end_early(commitment=made, ends_at=utc("2026-04-01"), now=NOW).ends_at == utc(
        "2026-04-01"
    )
    with pytest.raises(Invalid, match="ended already"):
        commitment_end_early(commitment=made, ends_at=utc("2026-05-01"), now=utc("2026-04-02"))


def test_one_that_has_not_begun_may_be_withdrawn(acme):
    made = commit(acme, starts_at=utc("2026-04-01"))
    with pytest.raises(Invalid, match="withdraw"):
        commitment_end_early(commitment=made, ends_at=utc("2026-03-20"), now=NOW)
    commitment_end_early(commitment=made, ends_at=utc("2026-04-01"), now=NOW)
    assert use(acme, utc("2026-04-10")).uses == ()


def test_the_database_holds_what_was_agreed(acme):
    commit(acme)
    with scope.tenant(acme.id):
        for change in (
            lambda rows: rows.update(gpus=1),
            lambda rows: rows.update(rate=1),
            lambda rows: rows.delete(),
        ):
            with pytest.raises(Error, match="never change"), transaction.atomic():
                change(Commitment.objects.all())


def test_use_of_the_running_month_by_hand(acme):
    commit(acme)
    project = default_project(acme)
    hold(project, label(project, "six"), "2026-03-05T00:00", "2026-03-06T00:00", gpus=6)
    hold(project, label(project, "one"), "2026-03-09T12:00", None)
    hold(project, label(project, "early"), "2026-03-02T00:00", "2026-03-03T00:00")
    hold(project, label(project, "l4"), "2026-03-06T00:00", "2026-03-07T00:00", gpu_type="l4")
    found = use(acme, NOW)
    (only,) = found.uses
    committed = 4 * D(5 * 24 + 12)
    assert only.covered == 4 * 24 + 24
    assert only.covered + only.unused == committed
    assert only.percent == int(100 * 120 / committed)
    # Beyond: two of the six for a day, and what was held before the commitment began.
    assert found.overflow == {"h100_sxm": D(2 * 24 + 24)}
    assert (found.start, found.end) == (utc("2026-02-28T23:00"), NOW)


def test_hours_in_which_an_endpoint_was_sold_by_the_token_use_no_commitment(acme):
    commit(acme, gpus=1)
    project = default_project(acme)
    chat = label(project, "chat")
    hold(project, chat, "2026-03-06T00:00", "2026-03-07T00:00")
    with scope.platform("a test"):
        SharedPeriod.objects.create(
            owner=acme, endpoint_id=chat, name="chat", model="guide", slo_class="standard",
            started_at=utc("2026-03-06T06:20"), ended_at=utc("2026-03-06T09:10"),
        )  # fmt: skip
    (only,) = use(acme, NOW).uses
    assert only.covered == 20


@pytest.mark.parametrize(("month", "hours"), [(3, 31 * 24 - 1), (10, 31 * 24 + 1), (4, 30 * 24)])
def test_a_month_with_a_change_of_clocks_has_its_own_hours(acme, month, hours):
    commit(acme, gpus=1, starts_at=utc("2026-03-01"), ends_at=utc("2028-01-01"))
    zone = ZoneInfo("Europe/Berlin")
    last = dt.datetime(2026, month + 1, 1, tzinfo=zone).astimezone(dt.UTC) - dt.timedelta(microseconds=1)
    (only,) = use(acme, last).uses
    began = hours - 1 if month == 3 else hours  # in March from the first hour of UTC's month on
    assert only.unused == began


def test_a_commitment_of_another_currency_than_the_tenants_is_left_alone(acme):
    commit(acme)
    with scope.platform("a test"):
        type(acme).objects.filter(id=acme.id).update(currency="USD")
    assert use(acme, NOW).uses == ()
