"""Budgets at admission and after: what is reserved with GPUs, who is refused, what is paused once it is spent."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.budgets.services import budget_change, budget_create
from billing.budgets.settling import budgets_settle_all
from billing.errors import OverBudget
from billing.models import Allocation, Budget, BudgetWindow, GpuClaim
from clusters.endpoints import budgets, services
from clusters.endpoints.budgets import endpoints_stop_spent
from clusters.endpoints.limits import endpoint_share
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.models import Condition, Endpoint, Reservation
from gateway import contract
from tenants import scope
from tenants.errors import Conflict
from tenants.services import project_create
from tests.clusters.endpoints.conftest import fresh
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db


def hours_left() -> Decimal:
    """Give how long the month still is, in hours."""
    now = timezone.now()
    _, end = contract.budget_window(contract.BudgetPeriod.MONTH, "UTC", now)
    return Decimal((end - now).total_seconds()) / 3600


def make(tenant, *, gpus: float = 100, **more) -> Budget:
    """Make a budget in which so many GPUs fit until the month ends."""
    values = {
        "name": "GPUs", "unit": "gpu_hours", "period": "month",
        "limit": round(hours_left() * Decimal(gpus), 6),
    } | more  # fmt: skip
    with scope.tenant(tenant.id):
        return budget_create(**values)


def reserved_gpus(budget: Budget) -> Decimal:
    """Give how many GPUs a budget reserves until the month ends."""
    with scope.tenant(budget.tenant_id):
        found = BudgetWindow.objects.get(budget=budget)
    return round(found.held / hours_left(), 2)


def test_an_order_reserves_for_its_replicas_and_one_too_many_is_refused_whole(order, tenant):
    budget = make(tenant, gpus=2.5)
    order("first", replicas=2)
    assert reserved_gpus(budget) == 2
    with pytest.raises(OverBudget, match="The budget GPUs of tenant Acme does not allow it"):
        order("second", replicas=1)
    with scope.tenant(tenant.id):
        assert [endpoint.name for endpoint in Endpoint.objects.all()] == ["first"]
        assert Reservation.objects.held().gpus() == 2
        assert GpuClaim.objects.count() == 1


def test_scaling_reserves_more_or_less(order, settle, tenant):
    budget = make(tenant, gpus=3.5)
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id):
        services.endpoint_scale(endpoint=endpoint, replicas=3, actor="a test")
    assert reserved_gpus(budget) == 3
    with scope.tenant(tenant.id), pytest.raises(OverBudget):
        services.endpoint_scale(endpoint=endpoint, replicas=4, actor="a test")
    with scope.tenant(tenant.id):
        services.endpoint_scale(endpoint=endpoint, replicas=1, actor="a test")
    assert reserved_gpus(budget) == 1


def test_what_is_paused_gives_back_once_its_gpus_are_released_and_resuming_asks_anew(order, settle, tenant):
    budget = make(tenant, gpus=1.5)
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    assert reserved_gpus(budget) == 1
    settle(endpoint)
    assert reserved_gpus(budget) == 0
    with scope.tenant(tenant.id):
        budget_change(budget=budget, limit=Decimal(0))
        with pytest.raises(OverBudget):
            services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
        budget_change(budget=budget, limit=Decimal(10**6))
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    assert reserved_gpus(budget) == 1


def test_a_deleted_order_that_was_never_started_gives_back_at_once(order, tenant):
    budget = make(tenant, gpus=1.5)
    endpoint = order(replicas=1)
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    assert reserved_gpus(budget) == 0


def test_a_move_counts_once(order, settle, tenant, estate):
    budget = make(tenant, gpus=1.5)
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id):
        services.endpoint_move(endpoint=endpoint, cluster=estate.clusters["fi-a"], actor="a test")
    assert reserved_gpus(budget) == 1
    settle(endpoint)
    assert reserved_gpus(budget) == 1


def test_what_waited_for_capacity_waits_on_where_the_budget_has_no_room_by_then(
    order, tenant, estate, cluster
):
    order("big", replicas=4, pins={"cluster": "de-a", "gpu": "l4"})
    waiting = order("small", replicas=1, pins={"cluster": "de-a", "gpu": "l4"})
    assert waiting.state != "failed"
    budget = make(tenant, gpus=0.5)
    with scope.tenant(tenant.id):
        big = Endpoint.objects.get(name="big")
        services.endpoint_delete(endpoint=big, actor="a test")

    assert reconcile_endpoint(waiting.id) is not None

    found = fresh(waiting)
    assert found.state == "waiting-for-capacity"
    assert found.state_reason.startswith("The budget GPUs of tenant Acme does not allow it")
    with scope.tenant(tenant.id):
        assert not Reservation.objects.held().filter(endpoint=waiting).exists()
        budget_change(budget=budget, active=False)
    reconcile_endpoint(waiting.id)
    with scope.tenant(tenant.id):
        assert Reservation.objects.held().filter(endpoint=waiting).exists()


def spend(tenant, hours: int = 1) -> None:
    """Let what runs have run for ``hours``, and settle that."""
    with scope.tenant(tenant.id):
        started = timezone.now() - dt.timedelta(hours=hours)
        Allocation.objects.filter(ended_at=None).update(started_at=started)
    budgets_settle_all(now=timezone.now())


def test_a_budget_that_stops_pauses_its_owner_alone_and_says_until_when(order, settle, tenant):
    with scope.tenant(tenant.id):
        other = project_create(slug="other", name="Other")
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id):
        Endpoint.objects.filter(id=endpoint.id).update(project=other)
        Allocation.objects.update(project=other)
        GpuClaim.objects.update(project=other)
    spared = settle(order("spared", replicas=1))
    budget = make(tenant, limit=Decimal("0.5"), policy="stop", owner_kind="project", owner_id=other.id)
    assert endpoints_stop_spent(now=timezone.now()) == 0
    spend(tenant)

    assert endpoints_stop_spent(now=timezone.now()) == 1
    assert endpoints_stop_spent(now=timezone.now()) == 0

    stopped = settle(endpoint)
    assert (stopped.wanted, stopped.state) == ("paused", "paused")
    assert stopped.state_reason.startswith("Paused: the budget GPUs is spent until ")
    assert (fresh(spared).wanted, fresh(spared).state) == ("running", "ready")
    with scope.tenant(tenant.id):
        with pytest.raises(OverBudget):
            services.endpoint_resume(endpoint=stopped, actor="a test")
        budget_change(budget=budget, limit=Decimal(10**6))
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=fresh(endpoint), actor="a test")
    assert settle(endpoint).state_reason == "Paused; it holds no GPUs."


@pytest.mark.parametrize("policy", ["warn", "block_new"])
def test_other_policies_pause_nobody(order, settle, tenant, policy):
    make(tenant, limit=Decimal("0.5"), policy="warn")
    with scope.tenant(tenant.id):
        budget = Budget.objects.get()
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id):
        budget_change(budget=budget, policy=policy)
    spend(tenant)
    assert endpoints_stop_spent(now=timezone.now()) == 0
    assert fresh(endpoint).wanted == "running"


def test_shared_endpoints_and_other_tenants_go_on(order, settle, tenant, estate):
    endpoint = settle(order(replicas=1))
    make(tenant, limit=Decimal("0.5"), policy="stop")
    spend(tenant)
    stranger = make_tenant("stranger")
    with scope.tenant(stranger.id):
        theirs = services.endpoint_order(
            project=default_project(stranger), name="theirs", terms=estate.terms(replicas=1), actor="a test"
        )
    with scope.tenant(tenant.id):
        endpoint_share(endpoint=fresh(endpoint), shared=True, actor="an operator")
    assert endpoints_stop_spent(now=timezone.now()) == 0
    assert fresh(endpoint).wanted == fresh(theirs).wanted == "running"


def test_a_spent_budget_of_requests_that_stops_keeps_its_owner_from_new_gpus(order, settle, tenant):
    endpoint = settle(order(replicas=1))
    budget = make(tenant, name="Tokens", unit="tokens", limit=Decimal(100), policy="stop")
    with scope.tenant(tenant.id):
        start, end = contract.budget_window(contract.BudgetPeriod.MONTH, "UTC", timezone.now())
        BudgetWindow.objects.create(budget=budget, start=start, end=end, limit=100, granted=100, settled=100)
    assert endpoints_stop_spent(now=timezone.now()) == 1
    settle(endpoint)
    with scope.tenant(tenant.id), pytest.raises(OverBudget, match="100 tokens of 100 tokens are spent"):
        services.endpoint_resume(endpoint=fresh(endpoint), actor="a test")
    with pytest.raises(OverBudget):
        order("another")
    with scope.tenant(tenant.id):
        placed = Condition.objects.get(endpoint=endpoint, type="Placed")
    assert placed.reason == "BudgetSpent"


def test_an_endpoint_that_cannot_be_paused_keeps_no_other_running(order, settle, tenant, monkeypatch, caplog):
    endpoints = [settle(order(name)) for name in ("first", "second")]
    make(tenant, limit=Decimal("0.5"), policy="stop")
    spend(tenant)
    bad = min(endpoints, key=lambda each: each.id)

    def pause(*, endpoint, **options):
        if endpoint.id == bad.id:
            raise Conflict("it is busy")
        return real(endpoint=endpoint, **options)

    real = budgets.endpoint_pause
    monkeypatch.setattr(budgets, "endpoint_pause", pause)
    assert endpoints_stop_spent(now=timezone.now()) == 1
    assert f"endpoint {bad.id}, whose budget is spent, cannot be paused" in caplog.text
    assert sorted(fresh(each).wanted for each in endpoints) == ["paused", "running"]
