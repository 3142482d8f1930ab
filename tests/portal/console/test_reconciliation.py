"""What operators see of how usage arrived."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from billing.metering.ingest import ingest
from billing.models import GatewayDay, SequenceGap
from gateway.contract import DayTotals, UsageBatch
from tenants import scope
from tests.api.conftest import client_of
from tests.api.contract import API, assert_problem
from tests.billing.usage import segment

IDENTITY = "gw-de/a1"


def ship(acme, *, logged: int, day: dt.date | None = None) -> dt.datetime:
    """Ship and count one good and one bad segment of three requests each, of ``logged`` that the log holds."""
    at = timezone.now() - dt.timedelta(hours=1)
    good = segment(acme, 1, at=at, gateway=IDENTITY)
    bad = segment(acme, 2, at=at, gateway=IDENTITY, model="<b>" * 40)
    totals = DayTotals(day=at.date(), requests=logged, input_tokens=200, output_tokens=100, cached_tokens=20)
    ingest(batch=UsageBatch(gateway=IDENTITY, segments=(good, bad), days=(totals,)), now=at)
    with scope.platform("test"):
        GatewayDay.objects.create(
            gateway=IDENTITY, day=at.date(), requests=3, input_tokens=100, output_tokens=50, cached_tokens=10,
            segments=1, counted_at=at,
        )  # fmt: skip
    return at


def gap(first: int, last: int, *, age: dt.timedelta) -> SequenceGap:
    with scope.platform("test"), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_gatewaysequence (gateway, seen, counted_at) VALUES (%s, '{[1,3),[9,12)}', now())",
            [IDENTITY],
        )
        return SequenceGap.objects.create(
            gateway=IDENTITY, first=first, last=last, noticed_at=timezone.now() - age
        )


def page(console, at: dt.datetime) -> str:
    answer = console.get(reverse("console:reconciliation"), {"day": f"{at:%Y-%m-%d}"})
    assert answer.status_code == 200
    return answer.text


def test_a_day_shows_what_is_lost_and_what_was_refused(console, acme):
    at = ship(acme, logged=9)
    shown = page(console, at)
    assert "This day does not reconcile" in shown
    assert "Lost" in shown
    assert "model is longer than 80 characters" in shown
    assert "&lt;b&gt;" in shown
    assert "<b><b>" not in shown


def test_a_day_on_which_all_agree_says_so(console, acme):
    at = ship(acme, logged=6)
    shown = page(console, at)
    assert "Lost" not in shown
    assert "Agrees" in shown


def test_a_day_without_usage_and_a_wrong_day_are_told(console):
    assert "No usage on this day" in console.get(reverse("console:reconciliation")).text
    answer = console.get(reverse("console:reconciliation"), {"day": "soon"})
    assert answer.status_code == 422
    assert "Write the day as YYYY-MM-DD." in answer.text


def test_a_gap_is_pointed_out_once_it_has_settled(console, estate):
    gap(3, 8, age=dt.timedelta(minutes=1))
    assert "is missing" not in console.get(reverse("console:home")).text
    with scope.platform("test"):
        SequenceGap.objects.update(noticed_at=timezone.now() - dt.timedelta(minutes=6))
    shown = console.get(reverse("console:home")).text
    assert f"Usage of gateway {IDENTITY} is missing" in shown
    assert "Sequence 3 to 8 did not come" in shown


def test_refusals_and_days_that_do_not_reconcile_are_pointed_out(console, acme):
    ship(acme, logged=9)
    shown = console.get(reverse("console:home")).text
    assert "1 usage segment refused in 7 days" in shown
    assert "does not reconcile" in shown


def test_a_gateways_page_shows_its_gaps_and_one_can_be_noted_as_lost(console, estate):
    lost = gap(3, 8, age=dt.timedelta(hours=2))
    shown = console.get(reverse("console:gateway", args=["gw-de"])).text
    assert IDENTITY in shown
    accept = reverse("console:gateway-gap-accept", args=["gw-de", lost.id])
    assert accept in shown
    assert console.get(accept).status_code == 405
    answer = console.post(accept, follow=True)
    assert "every segment up to the newest came" in answer.text
    with scope.platform("test"), connection.cursor() as cursor:
        assert not SequenceGap.objects.exists()
        cursor.execute("SELECT seen::text FROM billing_gatewaysequence")
        assert cursor.fetchone() == ("{[1,12)}",)
    assert console.post(accept).status_code == 404


@pytest.fixture
def api(operator) -> APIClient:
    client = APIClient()
    client.force_login(operator)
    return client


def test_operators_read_the_same_through_rest(api, acme):
    at = ship(acme, logged=9)
    lost = gap(3, 8, age=dt.timedelta(hours=2))
    found = api.get(f"{API}/usage-reconciliation", {"day": f"{at:%Y-%m-%d}"}).json()
    (gateway,) = found["gateways"]
    assert (gateway["gateway"], gateway["verdict"], gateway["missing"]["requests"]) == (IDENTITY, "lost", 3)
    assert (found["is_bad"], found["stored"]["requests"], found["rated"]["requests"]) == (True, 3, 0)
    (shown,) = api.get(f"{API}/usage-gaps").json()["results"]
    assert (shown["id"], shown["first"], shown["last"]) == (lost.id, 3, 8)
    (refused,) = api.get(f"{API}/usage-refusals").json()["results"]
    assert (refused["gateway"], refused["sequence"], refused["count"]) == (IDENTITY, 2, 1)
    assert_problem(api.get(f"{API}/usage-reconciliation", {"day": "soon"}), 422, "invalid")


@pytest.mark.parametrize("path", ["usage-reconciliation", "usage-gaps", "usage-refusals"])
def test_to_others_they_do_not_exist(path, acme):
    assert APIClient().get(f"{API}/{path}").status_code == 401
    assert client_of(acme).get(f"{API}/{path}").status_code == 404
