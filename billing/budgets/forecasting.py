"""Forecasts of windows from rows, and telling once a window whose limit will not do."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
import zoneinfo
from typing import Final

from billing.budgets.alerts import tell_forecast
from billing.budgets.counting import GpuTime, used_amounts
from billing.budgets.forecast import MOST_DAYS, Forecast, forecast_running, forecast_usage
from billing.models import Budget, BudgetWindow
from tenants import scope
from tenants.locks import Lock, held
from tenants.models import Tenant

log = logging.getLogger(__name__)

_DAY: Final = dt.timedelta(days=1)


def forecast_of(window: BudgetWindow, tenant: Tenant, *, now: dt.datetime) -> Forecast:
    """Forecast where a window of the open tenant ends, by what is held now or by how requests went so far."""
    budget = window.budget
    if budget.basis == Budget.Basis.GPU_TIME:
        time = GpuTime(tenant_id=tenant.id, currency=tenant.currency)
        return forecast_running(
            settled=window.settled,
            reserved=window.held,
            running=time.flows(budget, now, window.end),
            limit=window.limit,
            now=now,
        )
    zone = zoneinfo.ZoneInfo(tenant.time_zone)
    today = now.astimezone(zone).date()
    midnights = [
        dt.datetime.combine(today - _DAY * back, dt.time(), zone).astimezone(dt.UTC)
        for back in range(MOST_DAYS, -1, -1)
    ]
    return forecast_usage(
        settled=window.settled,
        days=used_amounts(budget, tenant.currency, midnights),
        limit=window.limit,
        now=now,
        end=window.end,
        time_zone=tenant.time_zone,
    )


def budgets_forecast_all(*, now: dt.datetime) -> int:
    """Tell, once a window, of budgets that are expected to pass their limit. Gives how many were told."""
    with scope.platform("find budgets that may pass their limits"):
        tenants = list(_untold(now).order_by("tenant_id").values_list("tenant_id", flat=True).distinct())
    told = 0
    for tenant_id in tenants:
        try:
            with scope.tenant(tenant_id), held(Lock.BUDGETS) as mine:
                if not mine:
                    break
                told += _forecast(tenant_id, now)
        except Exception:
            log.exception("the budgets of tenant %s cannot be forecast", tenant_id)
    return told


def _forecast(tenant_id: uuid.UUID, now: dt.datetime) -> int:
    told = 0
    tenant = Tenant.objects.get(id=tenant_id)
    for window in _untold(now).select_related("budget").order_by("budget_id", "start"):
        forecast = forecast_of(window, tenant, now=now)
        if forecast.expected is None or forecast.expected <= window.limit:
            continue
        locked = (
            BudgetWindow.objects.select_for_update(of=("self",)).select_related("budget").get(id=window.id)
        )
        tell_forecast(locked, forecast, now=now)
        locked.save(update_fields=["forecast_at"])
        told += locked.forecast_at == now
    return told


def _untold(now: dt.datetime):
    return BudgetWindow.objects.filter(
        start__lte=now, end__gt=now, forecast_at=None, spent_at=None, budget__active=True
    )
