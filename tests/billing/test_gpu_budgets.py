"""Budgets of GPU time: what is settled is what is charged, what is reserved is what it will cost, who is refused."""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.allocations import allocation_close
from billing.budgets import forecasting, settling
from billing.budgets.reserving import budget_effects, gpus_claim, gpus_unclaim
from billing.budgets.services import budget_change, budget_create
from billing.budgets.settling import SETTLED_AFTER, budgets_settle, budgets_settle_all
from billing.costs import cost_summary
from billing.errors import OverBudget
from billing.models import Budget, BudgetLease, BudgetWindow, GpuClaim, SharedPeriod
from gateway import contract
from tenants import scope
from tenants.errors import Invalid
from tenants.services import project_create
from tests.billing.prices import hold, list_prices, price, utc
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db

NOW = utc("2026-05-20 12:00")
ENDS = utc("2026-06-01")
LEFT_H = Decimal(276)  # hours from NOW to ENDS


@pytest.fixture
def tenant():
    list_prices()
    return make_tenant("acme")


@pytest.fixture
def project(tenant):
    return default_project(tenant)


def make(tenant, **more) -> Budget:
    values = {"name": "GPUs", "unit": "gpu_hours", "limit": Decimal(1000), "period": "month"} | more
    with scope.tenant(tenant.id):
        return budget_create(**values)


def claim(project, endpoint_id: uuid.UUID, gpus: int = 1, *, now: dt.datetime = NOW, **more) -> None:
    facts = {"region": "de-1", "gpu_type": "h100_sxm", "price_factor": Decimal(1)} | more
    with scope.tenant(project.tenant_id):
        gpus_claim(project=project, endpoint_id=endpoint_id, gpus=gpus, now=now, **facts)


def window(budget: Budget, at: dt.datetime = NOW) -> BudgetWindow:
    with scope.tenant(budget.tenant_id):
        return BudgetWindow.objects.get(budget=budget, start__lte=at, end__gt=at)


def sums(budget: Budget, at: dt.datetime = NOW) -> tuple[Decimal, Decimal]:
    found = window(budget, at)
    return found.settled, found.held


@pytest.mark.parametrize("what", ["settle", "forecast"])
def test_one_tenant_whose_budgets_cannot_be_counted_keeps_nobody_elses_back(
    tenant, monkeypatch, caplog, what
):
    other = make_tenant()
    for each in (tenant, other):
        make(each)
    budgets_settle_all(now=NOW)
    module, name = (settling, "budgets_settle") if what == "settle" else (forecasting, "forecast_of")
    bad = min(tenant.id, other.id)

    def fail(*args, **options):
        if scope.current_tenant_id() == bad:
            raise ArithmeticError("a number that nobody thought of")
        seen.append(scope.current_tenant_id())
        return real(*args, **options)

    seen: list[uuid.UUID] = []
    real = getattr(module, name)
    monkeypatch.setattr(module, name, fail)
    if what == "settle":
        assert budgets_settle_all(now=NOW) == 1
    else:
        forecasting.budgets_forecast_all(now=NOW)
    assert seen == [max(tenant.id, other.id)]
    assert f"the budgets of tenant {bad} cannot be" in caplog.text


def test_what_an_order_reserves_is_what_it_costs_until_the_window_ends(tenant, project):
    hours, money = (
        make(tenant),
        make(tenant, name="Money", unit="money", basis="gpu_time", limit=Decimal(5000)),
    )
    price("gpu_hour", "7.20", utc("2026-05-31"), gpu_type="h100_sxm")

    claim(project, uuid.uuid4(), 2, price_factor=Decimal("1.5"))

    assert sums(hours) == (0, 2 * LEFT_H)
    at_both_prices = (LEFT_H - 24) * Decimal("3.60") + 24 * Decimal("7.20")
    assert sums(money) == (0, 2 * at_both_prices * Decimal("1.5"))


def test_what_does_not_fit_is_refused_and_told_with_all_numbers(tenant, project):
    budget = make(tenant, limit=Decimal(600), owner_kind="project", owner_id=project.id)
    claim(project, uuid.uuid4(), 2)
    endpoint = uuid.uuid4()

    with pytest.raises(OverBudget) as caught:
        claim(project, endpoint, 1)

    told = {
        "budget": "GPUs", "budget_id": str(budget.id), "owner": "project Default", "unit": "gpu_hours",
        "limit": "600", "spent": "0", "reserved": "552", "asked": "276", "resets_at": ENDS.isoformat(),
    }  # fmt: skip
    assert told.items() <= caught.value.extra.items()
    for words in ("GPUs", "project Default", "600.00 GPU-hours", "552.00", "276.00", ENDS.isoformat()):
        assert words in caught.value.message
    assert sums(budget) == (0, 552)
    with scope.tenant(tenant.id):
        assert not GpuClaim.objects.filter(endpoint_id=endpoint).exists()


def test_what_fits_exactly_is_let_in(tenant, project):
    budget = make(tenant, limit=2 * LEFT_H)
    claim(project, uuid.uuid4(), 2)
    assert window(budget).granted == budget.limit


def test_a_budget_that_warns_lets_all_in_and_shows_what_lies_beyond(tenant, project):
    budget = make(tenant, limit=Decimal(10), policy="warn")
    claim(project, uuid.uuid4(), 1)
    found = window(budget)
    assert (found.held, found.excess) == (LEFT_H, LEFT_H - 10)


def test_what_asks_for_no_more_than_before_is_never_refused(tenant, project):
    budget, endpoint = make(tenant, limit=Decimal(2000)), uuid.uuid4()
    claim(project, endpoint, 4)
    with scope.tenant(tenant.id):
        budget_change(budget=budget, limit=Decimal(100))

    claim(project, endpoint, 2)

    assert sums(budget) == (0, 2 * LEFT_H)
    with pytest.raises(OverBudget):
        claim(project, endpoint, 3)


def test_other_projects_and_other_tenants_do_not_count(tenant, project):
    with scope.tenant(tenant.id):
        other = project_create(slug="other", name="Other")
    budget = make(tenant, owner_kind="project", owner_id=other.id)
    stranger = make_tenant("stranger")
    claim(project, uuid.uuid4(), 8)
    claim(default_project(stranger), uuid.uuid4(), 8)
    claim(other, uuid.uuid4(), 1)
    assert sums(budget) == (0, LEFT_H)


def test_time_turns_what_is_reserved_into_what_is_settled(tenant, project):
    budget, endpoint = make(tenant), uuid.uuid4()
    claim(project, endpoint, 2)
    hold(project, endpoint, "2026-05-20 12:00", None, gpus=2)

    budgets_settle_all(now=NOW + dt.timedelta(hours=6))

    assert sums(budget) == (12, 2 * (LEFT_H - 6))


def test_what_is_given_back_is_free_and_what_was_held_stays_spent(tenant, project):
    budget, endpoint = make(tenant), uuid.uuid4()
    claim(project, endpoint, 1)
    allocation = hold(project, endpoint, "2026-05-20 12:00", None)
    later = NOW + dt.timedelta(hours=10)
    with scope.tenant(tenant.id):
        allocation_close(replica_id=allocation.replica_id, ended_at=later)
        gpus_unclaim(endpoint_id=endpoint, now=later)
        gpus_unclaim(endpoint_id=endpoint, now=later)
    budgets_settle_all(now=later + dt.timedelta(days=1))
    assert sums(budget) == (10, 0)


def test_what_runs_rolls_into_the_next_window_even_where_it_does_not_fit(tenant, project):
    budget, endpoint = make(tenant, limit=Decimal(300)), uuid.uuid4()
    claim(project, endpoint, 1)
    hold(project, endpoint, "2026-05-20 12:00", None)
    june = ENDS + dt.timedelta(hours=1)

    budgets_settle_all(now=june)

    assert sums(budget) == (LEFT_H, 0)
    found = window(budget, june)
    assert (found.settled, found.held, found.excess) == (1, 719, 420)
    with pytest.raises(OverBudget):
        claim(project, uuid.uuid4(), 1, now=june)


def test_an_order_that_comes_before_the_next_window_was_made_finds_what_runs_in_it(tenant, project):
    make(tenant, limit=Decimal(1000))
    claim(project, uuid.uuid4(), 1)
    with pytest.raises(OverBudget) as caught:
        claim(project, uuid.uuid4(), 1, now=ENDS)
    assert caught.value.extra["reserved"] == "720"


def test_a_pass_that_runs_twice_or_was_missed_changes_nothing(tenant, project):
    budget, endpoint = make(tenant), uuid.uuid4()
    claim(project, endpoint, 1)
    hold(project, endpoint, "2026-05-20 12:00", None)
    for hours in (1, 1, 30, 200):
        budgets_settle_all(now=NOW + dt.timedelta(hours=hours))
        assert sums(budget) == (hours, LEFT_H - hours)


def test_a_release_that_is_seen_after_the_window_ended_is_settled_into_it(tenant, project):
    budget, endpoint = make(tenant), uuid.uuid4()
    allocation = hold(project, endpoint, "2026-05-31 12:00", None)
    budgets_settle_all(now=ENDS - dt.timedelta(hours=1))
    budgets_settle_all(now=ENDS)
    assert sums(budget, ENDS - dt.timedelta(hours=1)) == (12, 0)
    with scope.tenant(tenant.id):
        allocation_close(replica_id=allocation.replica_id, ended_at=utc("2026-05-31 20:00"))
    budgets_settle_all(now=ENDS + SETTLED_AFTER - dt.timedelta(hours=1))
    assert sums(budget, ENDS - dt.timedelta(hours=1)) == (8, 0)


def test_a_new_budget_counts_what_was_held_since_its_window_began(tenant, project):
    started = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    hold(project, uuid.uuid4(), f"{started.replace(tzinfo=None)}", None, gpus=60)
    budget = make(tenant, period="month")
    with scope.tenant(tenant.id):
        assert 0 < sum(BudgetWindow.objects.filter(budget=budget).values_list("settled", flat=True)) < 2


def test_hours_in_which_an_endpoint_is_shared_count_in_no_budget_of_gpu_time(tenant, project):
    budget, endpoint = make(tenant), uuid.uuid4()
    hold(project, endpoint, "2026-05-20 00:00", "2026-05-20 10:00")
    with scope.platform("a test"):
        SharedPeriod.objects.create(
            owner=tenant, endpoint_id=endpoint, name="chat", model="guide", slo_class="standard",
            started_at=utc("2026-05-20 03:10"), ended_at=utc("2026-05-20 06:20"),
        )  # fmt: skip
    budgets_settle_all(now=NOW)
    assert sums(budget) == (6, 0)


def test_an_inactive_budget_reserves_and_refuses_nothing(tenant, project):
    budget = make(tenant, limit=Decimal(1), active=False)
    claim(project, uuid.uuid4(), 8)
    with scope.tenant(tenant.id):
        assert not BudgetWindow.objects.filter(budget=budget).exists()
        assert budget_effects(project=project, gpus=None) == []


def test_old_windows_are_forgotten_after_400_days(tenant):
    budget = make(tenant)
    budgets_settle_all(now=NOW)
    budgets_settle_all(now=ENDS + dt.timedelta(days=399))
    assert sums(budget) == (0, 0)
    budgets_settle_all(now=ENDS + dt.timedelta(days=401))
    with scope.tenant(tenant.id):
        assert not BudgetWindow.objects.filter(budget=budget, start__lte=NOW, end__gt=NOW).exists()


def test_gateways_are_given_budgets_of_requests_only_and_their_word_counts_for_no_other(tenant):
    from billing.budgets import ledger
    from billing.budgets.selectors import contract_budgets

    gpus, warns = make(tenant), make(tenant, name="Warns", unit="tokens", policy="warn")
    tokens = make(tenant, name="Tokens", unit="tokens", policy="stop")
    with scope.platform("a test"):
        assert [each.budget_id for each in contract_budgets([tenant.id])] == [str(tokens.id)]
    start, _ = contract.budget_window(contract.BudgetPeriod.MONTH, "UTC", NOW)
    lines = tuple(
        contract.LeaseLine(str(each.id), start, granted="5", settled="5", held="0") for each in (gpus, warns)
    )
    ledger.take(contract.LeaseReport(gateway="gw/1", sequence=1, lines=lines), now=NOW)
    with scope.tenant(tenant.id):
        assert [lease.window.budget_id for lease in BudgetLease.objects.filter(lessee="gw/1")] == [warns.id]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"basis": "tokens"}, "basis"),
        ({"unit": "tokens", "basis": "gpu_time"}, "basis"),
        ({"policy": "shout"}, "policy"),
        ({"recipients": ["nobody"]}, "recipients"),
    ],
)
def test_what_contradicts_itself_is_refused_beside_its_field(tenant, change, field):
    with pytest.raises(Invalid) as caught:
        make(tenant, **change)
    assert list(caught.value.errors) == [field]


# Two months, and both days on which clocks are put forward.
MOMENTS = st.integers(0, 45 * 24 * 60).map(lambda minutes: utc("2026-02-20") + dt.timedelta(minutes=minutes))


@settings(
    max_examples=12,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # each example writes into one transaction: shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    zone=st.sampled_from(sorted(zoneinfo.available_timezones())),
    period=st.sampled_from(["day", "week", "month"]),
    spans=st.lists(st.tuples(MOMENTS, MOMENTS, st.integers(1, 8)), min_size=1, max_size=6),
    at=MOMENTS,
    change=MOMENTS,
)
def test_in_every_zone_what_is_settled_is_what_the_window_cost(db, zone, period, spans, at, change):
    """The sum of a window is that of the cost report for the same window, over any price change."""
    tenant = make_tenant(time_zone=zone, currency="XTS")
    project = default_project(tenant)
    price("gpu_hour", "2.345678", currency="XTS", region=f"r{tenant.slug}")
    price("gpu_hour", "7.1", change, currency="XTS", gpu_type="h100_sxm", region=f"r{tenant.slug}")
    for start, end, gpus in spans:
        start, end = sorted((start, end))
        naive = [f"{moment.replace(tzinfo=None)}" for moment in (start, end)]
        hold(project, uuid.uuid4(), naive[0], naive[1], gpus=gpus, region=f"r{tenant.slug}")
    budget = make(tenant, unit="money", basis="gpu_time", period=period, limit=Decimal(10**9))

    start, end = contract.budget_window(contract.BudgetPeriod(period), zone, at)
    with scope.tenant(tenant.id):
        budgets_settle([budget], now=at)
        found = BudgetWindow.objects.get(budget=budget, start=start)
        charged = cost_summary(start=start, end=at, now=at).total.allocation
    assert start <= at < end
    assert abs(found.settled - charged) < Decimal("0.000001")
    assert found.end == end
