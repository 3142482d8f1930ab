"""Budgets: the list with how each stands, one with its alerts and past windows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing.budgets.selectors import BudgetState, WindowState, budget_history, budget_state, budget_states
from billing.models import Budget
from portal.pages.base import TenantPage
from portal.templatetags.berth import count, money
from tenants.roles import Action

NEAR_PERCENT: Final = 80
PERIODS: Final = {"day": "a day", "week": "a week", "month": "a month"}


class Budgets(TenantPage):
    """All budgets by name."""

    def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        states = budget_states(Budget.objects.order_by("name"), now=timezone.now())
        rows = [shown(state) | {"url": self.url("budget", state.budget.id)} for state in states]
        return self.render("tenant/budgets/list.html", {"rows": rows})


class BudgetPage(TenantPage):
    """A screen of one budget."""

    write_action: ClassVar[Action | None] = Action.MANAGE_BUDGETS

    def budget(self) -> Budget:
        """Give the budget that the address names."""
        found = Budget.objects.filter(id=self.kwargs["id"]).first()
        if found is None:
            raise Http404
        return found


class BudgetDetail(BudgetPage):
    """How one budget stands, what was told of it, and its past windows."""

    http_method_names: ClassVar[list[str]] = ["get", "head"]

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        budget = self.budget()
        state = budget_state(budget, now=timezone.now())
        past = [window for window in budget_history(budget) if window.start < state.window.start]
        context = {
            "row": shown(state),
            "breadcrumbs": [{"label": "Budgets", "url": self.url("budgets")}, {"label": budget.name}],
            "alerts": [
                {
                    "title": f"{alert.percent} % was reached",
                    "at": alert.reached_at,
                    "tone": "danger" if alert.percent >= 100 else "warn",
                }
                for alert in reversed(state.window.alerts)
            ],
            "gateways": [
                {
                    "lease": lease,
                    "settled": amount(budget, lease.settled),
                    "held": amount(budget, lease.held),
                    "free": amount(budget, max(Decimal(0), lease.granted - lease.settled - lease.held)),
                }
                for lease in state.window.gateways
            ],
            "past": [
                {
                    "window": window,
                    "settled": amount(budget, window.settled),
                    "limit": amount(budget, window.limit),
                }
                for window in past
            ],
        }
        return self.render("tenant/budgets/detail.html", context)


def shown(state: BudgetState) -> dict[str, Any]:
    """Give a budget as both doors show it: amounts written out, a meter, and whether it is near its end."""
    budget, window = state.budget, state.window
    resets = f"{timezone.localtime(window.resets_at):%Y-%m-%d %H:%M}"
    held = int((window.held + window.silent) * 100 / window.limit) if window.limit else 0
    return {
        "budget": budget,
        "owner": f"{budget.get_owner_kind_display()} {state.owner_name}",
        "percent": min(window.percent, 100),
        "held_percent": min(held, max(0, 100 - window.percent)),
        "text": f"{amount(budget, window.settled, unit=False)} of {amount(budget, window.limit)}",
        "per": PERIODS[budget.period],
        "tone": tone(window) if budget.active else "none",
        "facts": [
            {"label": "Spent", "value": f"{amount(budget, window.settled)} ({window.percent} %)"},
            {"label": "Held by open requests", "value": amount(budget, window.held)},
            *(
                [{"label": "At gateways that do not answer", "value": amount(budget, window.silent)}]
                if window.silent
                else []
            ),
            {"label": "Left", "value": amount(budget, window.left)},
            {"label": "Begins anew", "value": resets},
        ],
        "spent": amount(budget, window.settled),
        "held": amount(budget, window.held + window.silent),
        "left": amount(budget, window.left),
        "limit": amount(budget, window.limit),
        "resets": resets,
        "alert": max((alert.percent for alert in window.alerts), default=0),
    }


def tone(window: WindowState) -> str:
    """Give the tone of a window: whether it is spent, near it, or neither."""
    if window.percent >= 100:
        return "danger"
    return "warn" if window.alerts or window.percent >= NEAR_PERCENT else "ok"


def amount(budget: Budget, value: Decimal, *, unit: bool = True) -> str:
    """Write an amount of a budget: money or tokens, with its unit or bare."""
    if budget.unit == Budget.Unit.MONEY:
        return money(value, budget.currency if unit else "")
    return f"{count(value)} tokens" if unit else count(value)


def alerts_now() -> list[dict[str, Any]]:
    """Give the open tenant's active budgets of which a share was reached in the window that runs."""
    states = budget_states(Budget.objects.filter(active=True).order_by("name"), now=timezone.now())
    return [shown(state) for state in states if state.window.alerts]
