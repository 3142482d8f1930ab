"""What budgets tell: thresholds, spent, forecast; once a window, by row, webhook and e-mail, and to whom."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest

from billing.budgets import ledger
from billing.budgets.forecasting import budgets_forecast_all
from billing.budgets.services import budget_change, budget_create
from billing.budgets.settling import budgets_settle_all
from billing.costs import cost_summary
from billing.models import Budget, BudgetAlert, BudgetLease, BudgetWindow
from gateway import contract
from tenants import scope
from tenants.keys import key_mint, key_rotate
from tenants.models import KeyScope, Mail, WebhookDelivery
from tenants.webhooks.events import EVENT_TYPES
from tenants.webhooks.services import webhook_create
from tests.billing.prices import hold, list_prices, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, make_user

pytestmark = pytest.mark.django_db
NOW = utc("2026-05-20 12:00")


@pytest.fixture
def tenant():
    list_prices()
    tenant = make_tenant("acme", owner=make_user("olga@acme.example"), time_zone="Europe/Berlin")
    with scope.tenant(tenant.id):
        webhook_create(name="Ops", url="https://8.8.8.8/hook", event_types=list(EVENT_TYPES))
    return tenant


@pytest.fixture
def project(tenant):
    return default_project(tenant)


def make(tenant, **more) -> Budget:
    values = {"name": "All", "unit": "tokens", "limit": Decimal(1000), "period": "month"} | more
    with scope.tenant(tenant.id):
        return budget_create(**values)


def settle(budget: Budget, settled: int, *, now: dt.datetime = NOW, sequence: int = 1) -> None:
    """Let a gateway have spent so much."""
    start, _ = contract.budget_window(contract.BudgetPeriod(budget.period), "Europe/Berlin", now)
    line = contract.LeaseLine(str(budget.id), start, granted=str(settled), settled=str(settled), held="0")
    ledger.take(contract.LeaseReport(gateway="gw/1", sequence=sequence, lines=(line,)), now=now)


def told(tenant) -> tuple[list[str], list[str]]:
    """Give the types of the events that webhooks are told of, and the subjects of e-mails."""
    with scope.tenant(tenant.id):
        events = list(WebhookDelivery.objects.order_by("id").values_list("event_type", flat=True))
        return events, list(Mail.objects.order_by("id").values_list("subject", flat=True))


def window(budget: Budget, at: dt.datetime = NOW) -> BudgetWindow:
    with scope.tenant(budget.tenant_id):
        return BudgetWindow.objects.get(budget=budget, start__lte=at, end__gt=at)


def test_each_threshold_is_told_once_and_the_end_apart(tenant):
    budget = make(tenant)
    for sequence, settled in enumerate((400, 850, 900, 1000, 1000), start=1):
        settle(budget, settled, sequence=sequence)
    events, mails = told(tenant)
    assert events == ["budget.threshold_reached", "budget.threshold_reached", "budget.spent"]
    assert mails == ["[Acme] 80 % of the budget All is spent", "[Acme] The budget All is spent"]
    with scope.tenant(tenant.id):
        alerts = list(BudgetAlert.objects.values_list("kind", "percent"))
        mail = Mail.objects.get(subject="[Acme] The budget All is spent")
        body = json.loads(WebhookDelivery.objects.filter(event_type="budget.spent").get().body)
    assert sorted(alerts) == [("spent", 100), ("threshold", 50), ("threshold", 80), ("threshold", 100)]
    assert mail.recipient == "olga@acme.example"
    for words in (
        "1,000 tokens of 1,000 tokens",
        "tenant Acme",
        "2026-06-01 00:00 (Europe/Berlin)",
        "requests are refused",
    ):
        assert words in mail.text
    data = body["data"]
    assert (data["percent"], data["limit"], data["settled"], data["tenant"]) == (100, "1000", "1000", "acme")
    assert data["budget"]["id"] == str(budget.id)
    assert data["window"]["resets_at"] == "2026-05-31T22:00:00Z"


def test_a_raised_limit_lets_the_end_be_told_anew(tenant):
    budget = make(tenant, alert_percents=[])
    now = dt.datetime.now(dt.UTC)
    settle(budget, 1000, now=now)
    with scope.tenant(tenant.id):
        budget_change(budget=budget, limit=Decimal(2000))
    settle(budget, 2000, now=now, sequence=2)
    assert told(tenant)[0] == ["budget.spent", "budget.spent"]


def test_recipients_are_those_of_the_budget_and_mail_can_be_left_out(tenant):
    settle(make(tenant, name="Named", recipients=["CFO@acme.example"]), 1000)
    settle(make(tenant, name="Quiet", mail_alerts=False), 1000)
    with scope.tenant(tenant.id):
        assert list(Mail.objects.values_list("recipient", flat=True)) == ["cfo@acme.example"]
        assert WebhookDelivery.objects.filter(event_type="budget.spent").count() == 2


def test_an_inactive_budget_tells_nothing(tenant):
    settle(make(tenant, active=False), 1000)
    assert told(tenant) == ([], [])


def test_gpu_time_that_will_not_do_is_told_once_a_window(tenant, project):
    budget = make(tenant, unit="gpu_hours", limit=Decimal(300), policy="warn", alert_percents=[])
    hold(project, uuid.uuid4(), "2026-05-20 00:00", None)
    budgets_settle_all(now=NOW)
    assert budgets_forecast_all(now=NOW) == 0  # 12 + 274 hours until Berlin's month ends
    hold(project, uuid.uuid4(), "2026-05-20 00:00", None)
    budgets_settle_all(now=NOW)
    assert [budgets_forecast_all(now=NOW) for _ in range(2)] == [1, 0]
    events, mails = told(tenant)
    assert events == ["budget.forecast_exceeded"]
    assert mails == ["[Acme] The budget All is expected to pass its limit"]
    with scope.tenant(tenant.id):
        body = json.loads(WebhookDelivery.objects.get().body)["data"]
        assert "572.00 GPU-hours" in Mail.objects.get().text
    assert (body["forecast"]["expected"], body["percent"]) == ("572", 190)
    assert window(budget).forecast_at == NOW


def test_requests_of_a_budget_that_warns_are_counted_from_rollups(tenant, project):
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project)
    tokens = make(tenant, policy="warn", limit=Decimal(100))
    money = make(tenant, name="Money", unit="money", policy="warn", owner_kind="project", owner_id=project.id)
    of_key = make(tenant, name="Key", policy="warn", owner_kind="key", owner_id=key.id)
    endpoint = uuid.uuid4()
    for at in ("2026-04-30 21:00", "2026-04-30 22:00", "2026-05-20 11:00"):
        add_usage(
            project, at=utc(at), endpoint_id=endpoint, input_tokens=100, output_tokens=50, cached_tokens=10
        )
    add_usage(
        project,
        at=utc("2026-05-20 11:00"),
        endpoint_id=endpoint,
        key_id=key.id,
        input_tokens=7,
        output_tokens=3,
    )

    for _ in range(2):
        budgets_settle_all(now=NOW)

    assert window(tokens).settled == 2 * 150 + 10  # April ends at 22:00 UTC in Berlin
    assert window(of_key).settled == 10
    found = window(money)
    with scope.tenant(tenant.id):
        charged = cost_summary(start=found.start, end=NOW, now=NOW).total.usage
    assert abs(found.settled - charged) < Decimal("0.000001")
    assert told(tenant)[0].count("budget.spent") == 1


def test_a_budget_of_a_key_goes_on_with_the_key_that_takes_its_place(tenant, project):
    with scope.tenant(tenant.id):
        key, _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project)
        other, _ = key_mint(name="other", key_scope=KeyScope.INFERENCE, project=project)
    budget = make(tenant, policy="warn", owner_kind="key", owner_id=key.id)
    with scope.tenant(tenant.id):
        second, _ = key_rotate(key=key)
        third, _ = key_rotate(key=second)
    for each, tokens in ((key, 1), (second, 20), (third, 300), (other, 4000)):
        at = utc("2026-05-20 11:00")
        add_usage(project, at=at, endpoint_id=uuid.uuid4(), key_id=each.id, input_tokens=tokens)
    budgets_settle_all(now=NOW)
    assert window(budget).settled == 321


def test_what_gateways_settled_before_a_budget_only_warned_is_not_counted_twice(tenant, project):
    budget = make(tenant, policy="block_new")
    settle(budget, 120)
    with scope.tenant(tenant.id):
        budget_change(budget=budget, policy="warn")
    add_usage(
        project, at=utc("2026-05-20 11:00"), endpoint_id=uuid.uuid4(), input_tokens=100, output_tokens=50
    )
    budgets_settle_all(now=NOW)
    assert window(budget).settled == 150
    with scope.tenant(tenant.id):
        assert BudgetLease.objects.get(window=window(budget), lessee="@berth/usage").settled == 30


def test_requests_that_will_not_do_are_told_where_history_says_so(tenant, project):
    budget = make(tenant, limit=Decimal(2000), alert_percents=[])
    endpoint = uuid.uuid4()
    for day in range(10, 20):
        at = utc(f"2026-05-{day} 10:00")
        add_usage(project, at=at, endpoint_id=endpoint, input_tokens=60, output_tokens=40)
    settle(budget, 1000)
    assert budgets_forecast_all(now=NOW) == 1
    with scope.tenant(tenant.id):
        expected = Decimal(json.loads(WebhookDelivery.objects.get().body)["data"]["forecast"]["expected"])
    # Ten hours of Wednesday in Berlin and eleven whole days at 100 tokens.
    assert expected == pytest.approx(Decimal(1000 + 100 * (10 / 24 + 11)))
