"""How budgets stand: for the REST API, the pages, and the gateways' snapshots; few queries for many budgets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from django.db.models import F, QuerySet

from billing.budgets.forecast import Forecast
from billing.budgets.forecasting import forecast_of
from billing.budgets.settling import endpoint_of, is_own
from billing.models import Budget, BudgetAlert, BudgetLease, BudgetWindow, EndpointLabel
from gateway import contract
from tenants.models import ApiKey, Project, Tenant


@dataclasses.dataclass(frozen=True)
class LeaseState:
    """What one gateway has of a window. ``silent``: it does not answer, and what it holds counts as spent."""

    gateway: str
    granted: Decimal
    settled: Decimal
    held: Decimal
    silent: bool
    reported_at: dt.datetime


@dataclasses.dataclass(frozen=True)
class EndpointShare:
    """What one endpoint's GPUs took of a window, and what they will take until it ends."""

    endpoint_id: uuid.UUID
    name: str
    settled: Decimal
    held: Decimal


@dataclasses.dataclass(frozen=True)
class AlertState:
    """Something that was told of a window: a share of the limit was reached, all of it, or will be passed."""

    kind: str
    percent: int
    reached_at: dt.datetime


@dataclasses.dataclass(frozen=True)
class WindowState:
    """How a window stands. ``left`` is what neither is spent nor held; ``silent`` what gateways that do not answer
    may still be spending."""

    start: dt.datetime
    resets_at: dt.datetime
    limit: Decimal
    settled: Decimal
    held: Decimal
    silent: Decimal
    left: Decimal
    percent: int
    gateways: Sequence[LeaseState] = ()
    endpoints: Sequence[EndpointShare] = ()
    alerts: Sequence[AlertState] = ()


@dataclasses.dataclass(frozen=True)
class BudgetState:
    """A budget, whose it is, and the window that runs."""

    budget: Budget
    owner_name: str
    window: WindowState


def budget_states(budgets: Iterable[Budget], *, now: dt.datetime) -> list[BudgetState]:
    """Give how ``budgets`` stand now. Call it in the scope of their tenant, or in the platform's."""
    budgets = list(budgets)
    tenants = Tenant.objects.in_bulk({budget.tenant_id for budget in budgets})
    names = _owner_names(budgets, tenants)
    windows = {window.budget_id: window for window in _running(budgets, now)}
    leases, shares = defaultdict(list), defaultdict(list)
    rows = list(BudgetLease.objects.filter(window__in=windows.values()).order_by("lessee"))
    called = _endpoint_names(rows)
    for lease in rows:
        if (endpoint_id := endpoint_of(lease.lessee)) is not None:
            name = called.get(endpoint_id, str(endpoint_id))
            shares[lease.window_id].append(EndpointShare(endpoint_id, name, lease.settled, lease.held))
        if is_own(lease.lessee):
            continue
        leases[lease.window_id].append(
            LeaseState(
                lease.lessee, lease.granted, lease.settled, lease.held, lease.silent, lease.reported_at
            )
        )
    alerts = defaultdict(list)
    for alert in BudgetAlert.objects.filter(window__in=windows.values()):
        alerts[alert.window_id].append(AlertState(alert.kind, alert.percent, alert.reached_at))
    return [
        BudgetState(
            budget=budget,
            owner_name=names.get((budget.owner_kind, budget.owner_id), str(budget.owner_id)),
            window=(
                _shown(window, leases[window.id], shares[window.id], alerts[window.id])
                if (window := windows.get(budget.id))
                else _untouched(budget, tenants[budget.tenant_id], now)
            ),
        )
        for budget in budgets
    ]


def budget_state(budget: Budget, *, now: dt.datetime) -> BudgetState:
    """Give how one budget stands now."""
    return budget_states([budget], now=now)[0]


def budget_forecast(budget: Budget, *, now: dt.datetime) -> Forecast:
    """Forecast where the window of a budget of the open tenant ends that runs now."""
    tenant = Tenant.objects.get(id=budget.tenant_id)
    window = _running([budget], now).select_related("budget").first()
    if window is None:
        start, end = contract.budget_window(contract.BudgetPeriod(budget.period), tenant.time_zone, now)
        window = BudgetWindow(
            tenant_id=tenant.id, budget=budget, start=start, end=end, limit=budget.limit,
            granted=Decimal(0), settled=Decimal(0), held=Decimal(0),
        )  # fmt: skip
    return forecast_of(window, tenant, now=now)


def budget_history(budget: Budget, *, windows: int = 12) -> list[BudgetWindow]:
    """Give the last windows of a budget, newest first."""
    return list(BudgetWindow.objects.filter(budget=budget).order_by("-start")[:windows])


def contract_budgets(tenant_ids: Iterable[uuid.UUID]) -> tuple[contract.Budget, ...]:
    """Give the budgets of tenants that gateways hold before each request: active, of requests, and not only warning.

    Call it in the platform's scope.
    """
    rows = (
        Budget.objects.filter(
            active=True,
            basis=Budget.Basis.TOKENS,
            tenant__in=tenant_ids,
            tenant__state=Tenant.State.ACTIVE,
        )
        .exclude(policy=Budget.Policy.WARN)
        .select_related("tenant")
        .order_by("id")
    )
    return tuple(
        contract.Budget(
            budget_id=str(budget.id),
            tenant_id=str(budget.tenant_id),
            owner=contract.Owner(budget.owner_kind),
            owner_id=str(budget.owner_id),
            name=budget.name,
            unit=contract.BudgetUnit(budget.unit),
            limit=f"{budget.limit.normalize():f}",
            period=contract.BudgetPeriod(budget.period),
            time_zone=budget.tenant.time_zone,
            currency=budget.currency,
            alert_percents=tuple(budget.alert_percents),
        )
        for budget in rows
    )


@dataclasses.dataclass(frozen=True)
class SpentBudget:
    """A budget that is spent and stops its owner's endpoints: of one project, or of all of the tenant's."""

    name: str
    tenant_id: uuid.UUID
    project_id: uuid.UUID | None
    time_zone: str
    resets_at: dt.datetime


def budgets_that_stop(*, now: dt.datetime) -> list[SpentBudget]:
    """Give the budgets that are spent now and whose policy stops endpoints. Call it in the platform's scope."""
    windows = (
        BudgetWindow.objects.filter(
            budget__active=True,
            budget__policy=Budget.Policy.STOP,
            start__lte=now,
            end__gt=now,
            settled__gte=F("limit"),
        )
        .exclude(budget__owner_kind=Budget.OwnerKind.KEY)
        .select_related("budget__tenant")
        .order_by("budget_id")
    )
    return [
        SpentBudget(
            name=window.budget.name,
            tenant_id=window.tenant_id,
            project_id=(
                window.budget.owner_id if window.budget.owner_kind == Budget.OwnerKind.PROJECT else None
            ),
            time_zone=window.budget.tenant.time_zone,
            resets_at=window.end,
        )
        for window in windows
    ]


def _running(budgets: Sequence[Budget], now: dt.datetime) -> QuerySet[BudgetWindow]:
    return BudgetWindow.objects.filter(budget__in=budgets, start__lte=now, end__gt=now).order_by("start")


def _endpoint_names(leases: Iterable[BudgetLease]) -> dict[uuid.UUID, str]:
    ids = {found for lease in leases if (found := endpoint_of(lease.lessee)) is not None}
    if not ids:
        return {}
    return dict(EndpointLabel.objects.filter(endpoint_id__in=ids).values_list("endpoint_id", "name"))


def _shown(
    window: BudgetWindow, leases: list[LeaseState], shares: list[EndpointShare], alerts: list[AlertState]
) -> WindowState:
    silent = sum(
        (lease.granted - lease.settled - lease.held for lease in leases if lease.silent), start=Decimal(0)
    )
    return WindowState(
        start=window.start,
        resets_at=window.end,
        limit=window.limit,
        settled=window.settled,
        held=window.held,
        silent=silent,
        left=max(Decimal(0), window.limit - window.settled - window.held - silent),
        percent=int(window.settled * 100 / window.limit) if window.limit else 100,
        gateways=leases,
        endpoints=sorted(shares, key=lambda share: (-share.settled - share.held, share.name)),
        alerts=alerts,
    )


def _untouched(budget: Budget, tenant: Tenant, now: dt.datetime) -> WindowState:
    start, end = contract.budget_window(contract.BudgetPeriod(budget.period), tenant.time_zone, now)
    zero = Decimal(0)
    return WindowState(start, end, budget.limit, zero, zero, zero, budget.limit, 0 if budget.limit else 100)


def _owner_names(
    budgets: Sequence[Budget], tenants: dict[uuid.UUID, Tenant]
) -> dict[tuple[str, uuid.UUID], str]:
    kinds = Budget.OwnerKind
    ids = {kind: {budget.owner_id for budget in budgets if budget.owner_kind == kind} for kind in kinds}
    names = {(kinds.TENANT.value, tenant.id): tenant.name for tenant in tenants.values()}
    for kind, model in ((kinds.PROJECT, Project), (kinds.KEY, ApiKey)):
        if ids[kind]:
            rows = model.objects.filter(id__in=ids[kind]).values_list("id", "name")
            names |= {(kind.value, id_): name for id_, name in rows}
    return names
