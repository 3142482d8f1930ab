"""Budgets: the list with how each stands, one with its alerts and past windows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from billing.budgets.forecast import Forecast
from billing.budgets.selectors import (
    BudgetState,
    WindowState,
    budget_forecast,
    budget_history,
    budget_state,
    budget_states,
)
from billing.models import Budget, BudgetAlert
from portal.pages.base import TenantPage
from portal.templatetags.berth import count, money, sentence
from tenants.roles import Action

NEAR_PERCENT: Final = 80
POLICIES: Final = {
    Budget.Policy.WARN: "Only warns",
    Budget.Policy.BLOCK_NEW: "Blocks what is new",
    Budget.Policy.STOP: "Stops endpoints",
}
_TOLD: Final = {
    BudgetAlert.Kind.THRESHOLD: "{percent} % was reached",
    BudgetAlert.Kind.SPENT: "It was spent",
    BudgetAlert.Kind.FORECAST: "It was expected to end at {percent} % of its limit",
}
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
            "spent": _consequence(budget) if state.window.percent >= 100 else "",
            "forecast": forecast_shown(budget, budget_forecast(budget, now=timezone.now()), state.window),
            "terms": _terms(budget),
            "alerts": [
                {
                    "title": _TOLD[BudgetAlert.Kind(alert.kind)].format(percent=alert.percent),
                    "at": alert.reached_at,
                    "tone": "danger" if alert.kind == BudgetAlert.Kind.SPENT else "warn",
                }
                for alert in reversed(state.window.alerts)
            ],
            "endpoints": [
                {
                    "share": share,
                    "url": self.url("endpoint", share.endpoint_id),
                    "settled": amount(budget, share.settled),
                    "held": amount(budget, share.held),
                }
                for share in state.window.endpoints
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
        "owner": owner_shown(budget, state.owner_name),
        "percent": min(window.percent, 100),
        "held_percent": min(held, max(0, 100 - window.percent)),
        "text": f"{amount(budget, window.settled, unit=False)} of {amount(budget, window.limit)}",
        "per": PERIODS[budget.period],
        "counts": counts(budget),
        "policy": POLICIES[Budget.Policy(budget.policy)],
        "tone": tone(window) if budget.active else "none",
        "facts": [
            {"label": "Spent", "value": f"{amount(budget, window.settled)} ({window.percent} %)"},
            {"label": _held_label(budget), "value": amount(budget, window.held)},
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
        "alert": max(
            (alert.percent for alert in window.alerts if alert.kind == BudgetAlert.Kind.THRESHOLD), default=0
        ),
        "expected": any(alert.kind == BudgetAlert.Kind.FORECAST for alert in window.alerts),
    }


def owner_shown(budget: Budget, name: str) -> str:
    """Name whose budget it is, as it reads within a sentence."""
    return f"all of {name}" if budget.owner_kind == Budget.OwnerKind.TENANT else f"{budget.owner_kind} {name}"


def counts(budget: Budget) -> str:
    """Say in short what a budget counts."""
    if budget.basis == Budget.Basis.GPU_TIME:
        return "GPU time" if budget.unit == Budget.Unit.GPU_HOURS else "cost of GPU time"
    return "tokens" if budget.unit == Budget.Unit.TOKENS else "cost of requests"


def forecast_shown(budget: Budget, forecast: Forecast, window: WindowState) -> dict[str, Any]:
    """Give a forecast as the page of a budget shows it."""
    if forecast.expected is None:
        return {"note": forecast.note, "facts": []}
    reached = (
        f"{timezone.localtime(forecast.reached_at):%Y-%m-%d %H:%M}"
        if forecast.reached_at
        else "Not before it begins anew"
    )
    low, high = amount(budget, forecast.low), amount(budget, forecast.high)
    return {
        "note": forecast.note,
        "over": forecast.expected > window.limit and window.percent < 100,
        "expected": amount(budget, forecast.expected),
        "facts": [
            {
                "label": "When it begins anew",
                "value": f"{timezone.localtime(window.resets_at):%Y-%m-%d %H:%M}",
            },
            {"label": "Expected by then", "value": amount(budget, forecast.expected)},
            {"label": "Between", "value": low if low == high else f"{low} and {high}"},
            {"label": "Limit reached", "value": reached},
        ],
    }


def _terms(budget: Budget) -> list[dict[str, Any]]:
    told = ", ".join(budget.recipients) or "owners, admins and billing"
    percents = ", ".join(f"{percent} %" for percent in budget.alert_percents) or "no share of it"
    return [
        {"label": "Counts", "value": sentence(counts(budget))},
        {"label": "Once it is spent", "value": _consequence(budget)},
        {"label": "Told at", "value": f"{percents}; when it is spent, or expected to be"},
        {"label": "By e-mail to", "value": told if budget.mail_alerts else "nobody"},
    ]


def _consequence(budget: Budget) -> str:
    if budget.policy == Budget.Policy.WARN:
        return "Nothing is refused: it only warns."
    refused = (
        "Orders and changes that need more GPUs are refused"
        if budget.basis == Budget.Basis.GPU_TIME
        else "Requests are refused"
    )
    stopped = (
        ", and its owner's endpoints are paused until a person resumes them"
        if budget.policy == Budget.Policy.STOP
        else ""
    )
    return f"{refused} until it begins anew or its limit is raised{stopped}."


def _held_label(budget: Budget) -> str:
    return "Reserved for what runs" if budget.basis == Budget.Basis.GPU_TIME else "Held by open requests"


def tone(window: WindowState) -> str:
    """Give the tone of a window: whether it is spent, near it, or neither."""
    if window.percent >= 100:
        return "danger"
    return "warn" if window.alerts or window.percent >= NEAR_PERCENT else "ok"


def amount(budget: Budget, value: Decimal, *, unit: bool = True) -> str:
    """Write an amount of a budget: money, tokens or GPU-hours, with its unit or bare."""
    if budget.unit == Budget.Unit.GPU_HOURS:
        return f"{money(value)} GPU-hours" if unit else money(value)
    if budget.unit == Budget.Unit.MONEY:
        return money(value, budget.currency if unit else "")
    return f"{count(value)} tokens" if unit else count(value)


def alerts_now() -> list[dict[str, Any]]:
    """Give the open tenant's active budgets of which something was told in the window that runs."""
    states = budget_states(Budget.objects.filter(active=True).order_by("name"), now=timezone.now())
    return [shown(state) for state in states if state.window.alerts]
