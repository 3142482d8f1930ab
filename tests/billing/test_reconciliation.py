"""What each part of the pipe counted of a day is compared, and a loss on the way is found."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
from django.core.management import CommandError, call_command

from billing.metering.engines import Reading, engine_tokens_add
from billing.metering.ingest import ingest
from billing.metering.partitions import drop_partitions
from billing.metering.reconciliation import Reconciliation, Sums, Verdict, bad_days, reconcile
from billing.models import EndpointLabel, UsageDay, UsageHour
from gateway.contract import DayTotals, UsageBatch, UsageSegment
from tenants import scope
from tests.billing.usage import GATEWAY, NOW, roll_up_until, segment
from tests.factories import default_project, make_tenant

DAY = dt.timedelta(days=1)
LATER = NOW + dt.timedelta(minutes=10)
IDENTITY = f"{GATEWAY}/a1"


@pytest.fixture
def tenant(committed_db):
    return make_tenant()


def ours(tenant, count: int, **changes) -> list[UsageSegment]:
    return [segment(tenant, number, gateway=IDENTITY, **changes) for number in range(1, count + 1)]


def totals(segments: list[UsageSegment]) -> DayTotals:
    return DayTotals(
        day=NOW.date(),
        requests=sum(each.requests for each in segments),
        input_tokens=sum(each.input_tokens for each in segments),
        output_tokens=sum(each.output_tokens for each in segments),
        cached_tokens=sum(each.cached_tokens for each in segments),
    )


def ship(segments: list[UsageSegment], *, logged: list[UsageSegment] | None = None, now=NOW) -> None:
    days = (totals(segments if logged is None else logged),)
    ingest(batch=UsageBatch(gateway=IDENTITY, segments=tuple(segments), days=days), now=now)


def found(now: dt.datetime = LATER, **narrowed) -> Reconciliation:
    with scope.platform("test"):
        return reconcile(day=NOW.date(), now=now, **narrowed)


def test_all_agree_when_everything_arrived(tenant):
    ship(ours(tenant, 20))
    roll_up_until(tenant, 60)
    report = found()
    all_of_it = Sums(requests=60, input_tokens=2_000, output_tokens=1_000, cached_tokens=200)
    (gateway,) = report.gateways
    assert (gateway.gateway, gateway.verdict, bool(gateway.missing)) == (IDENTITY, Verdict.AGREES, False)
    assert gateway.logged == gateway.stored == gateway.counted == all_of_it
    assert report.stored == report.counted == report.hours == report.days == report.rated == all_of_it
    assert (report.verdict, report.is_bad) == (Verdict.AGREES, False)


def test_a_loss_of_a_thousandth_between_gateway_and_control_plane_is_found(tenant):
    logged = ours(tenant, 1_000)
    lost = logged[499]
    ship([each for each in logged if each is not lost], logged=logged)
    roll_up_until(tenant, 2_997)
    report = found()
    (gateway,) = report.gateways
    assert gateway.verdict == Verdict.LOST
    assert gateway.missing == Sums(requests=3, input_tokens=100, output_tokens=50, cached_tokens=10)
    assert gateway.missing_sequences == 1
    assert report.is_bad
    with scope.platform("test"):
        assert bad_days(now=LATER, days=7) == [NOW.date()]
    ship([lost], logged=logged)
    roll_up_until(tenant, 3_000)
    assert not found().is_bad
    with scope.platform("test"):
        assert bad_days(now=LATER, days=7) == []


def test_a_loss_at_the_end_which_leaves_no_gap_is_found(tenant):
    logged = ours(tenant, 1_000)
    ship(logged[:-1], logged=logged)
    roll_up_until(tenant, 2_997)
    (gateway,) = found().gateways
    assert (gateway.verdict, gateway.missing.requests, gateway.missing_sequences) == (Verdict.LOST, 3, 0)


def test_a_loss_of_tokens_alone_is_found(tenant):
    logged = ours(tenant, 10)
    ship(ours(tenant, 10, cached_tokens=9), logged=logged)
    (gateway,) = found().gateways
    assert (gateway.verdict, gateway.missing) == (Verdict.LOST, Sums(cached_tokens=10))


@pytest.mark.parametrize("rollup", [UsageHour, UsageDay])
def test_a_rollup_that_lost_a_thousandth_is_found(tenant, rollup):
    ship(ours(tenant, 500))
    roll_up_until(tenant, 1_500)
    with scope.tenant(tenant.id):
        row = rollup.objects.get()
        row.output_tokens -= 25
        row.save()
    report = found()
    assert (report.verdict, report.is_bad) == (Verdict.MISCOUNTED, True)
    assert [each.verdict for each in report.gateways] == [Verdict.AGREES]


def test_what_is_not_counted_yet_is_arriving_and_later_miscounted(tenant):
    ship(ours(tenant, 2))
    assert found(now=NOW).verdict == Verdict.ARRIVING
    assert found(now=LATER).verdict == Verdict.MISCOUNTED


def test_what_was_refused_is_not_lost(tenant):
    good = ours(tenant, 3)
    bad = segment(tenant, 4, gateway=IDENTITY, model="m\x00")
    ship([*good, bad])
    roll_up_until(tenant, 9)
    (gateway,) = found().gateways
    assert (gateway.verdict, gateway.refused.requests, gateway.stored.requests) == (Verdict.AGREES, 3, 9)
    with scope.platform("test"):
        assert bad_days(now=LATER, days=7) == []


def test_more_than_was_logged_is_unexplained_once_it_is_old(tenant):
    segments = ours(tenant, 3)
    ship(segments, logged=segments[:2])
    assert found(now=NOW).gateways[0].verdict == Verdict.ARRIVING
    assert found(now=LATER).gateways[0].verdict == Verdict.UNEXPLAINED


def test_totals_that_come_again_in_another_order_take_nothing_back(tenant):
    segments = ours(tenant, 4)
    ship(segments)
    ship(segments[:2], now=NOW + dt.timedelta(seconds=1))
    assert found().gateways[0].logged == found().gateways[0].stored


def test_gateways_that_tell_nothing_are_shown_and_one_can_be_asked_for(tenant):
    ship(ours(tenant, 1))
    other = segment(tenant, 1, gateway="other/b2")
    ingest(batch=UsageBatch(gateway="other/b2", segments=(other,)), now=NOW)
    roll_up_until(tenant, 6)
    report = found()
    assert {each.gateway: each.verdict for each in report.gateways} == {
        IDENTITY: Verdict.AGREES,
        "other/b2": Verdict.NOT_TOLD,
    }
    assert not report.is_bad
    assert [each.gateway for each in found(gateway="other").gateways] == ["other/b2"]


def test_once_segments_are_dropped_what_was_counted_stands_for_them(tenant, settings):
    settings.USAGE_RETENTION_DAYS = 2
    logged = ours(tenant, 3)
    ship(logged[:2], logged=logged)
    roll_up_until(tenant, 6)
    assert drop_partitions(now=NOW + 5 * DAY) == 1
    report = found(now=NOW + 5 * DAY)
    (gateway,) = report.gateways
    assert (report.stored, gateway.stored, report.verdict) == (None, None, Verdict.AGREES)
    assert (gateway.verdict, gateway.missing.requests) == (Verdict.LOST, 3)


def test_engines_are_compared_where_they_count_and_named(tenant):
    served, silent = uuid.UUID(int=3), uuid.UUID(int=33)
    ship([*ours(tenant, 2), segment(tenant, 9, gateway=IDENTITY, endpoint_id=str(silent))])
    roll_up_until(tenant, 9)
    with scope.tenant(tenant.id):
        EndpointLabel.objects.create(
            tenant=tenant, endpoint_id=served, project=default_project(tenant), name="chat", model="m", slo_class="s"
        )  # fmt: skip
    with scope.platform("test"):
        engine_tokens_add(readings=[Reading("r1", served, 150, 70), Reading("r2", served, 49, 29)], now=NOW)
    first, second = found().engines
    assert (first.name, first.metered.input_tokens, first.metered.output_tokens) == (
        f"chat of {tenant.name}",
        200,
        100,
    )
    assert first.counted == Sums(input_tokens=199, output_tokens=99)
    assert (second.endpoint_id, second.counted) == (silent, None)


def test_the_command_tells_and_fails_where_something_is_wrong(tenant, capsys):
    logged = ours(tenant, 10)
    ship(logged)
    roll_up_until(tenant, 30)
    call_command("usage_reconcile", day=f"{NOW:%Y-%m-%d}")
    shown = capsys.readouterr().out
    assert IDENTITY in shown
    assert "agrees" in shown
    call_command("usage_reconcile", day=f"{NOW:%Y-%m-%d}", json=True)
    assert json.loads(capsys.readouterr().out)["rated"]["requests"] == 30
    ship([], logged=[*logged, logged[0]])
    with pytest.raises(CommandError, match=r"2026-05-20 does not reconcile"):
        call_command("usage_reconcile", day="2026-05-20")
    assert "lost" in capsys.readouterr().out
    with pytest.raises(CommandError, match="is no day"):
        call_command("usage_reconcile", day="yesterday")
