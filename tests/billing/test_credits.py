"""Credits: granted once, used by final statements, never edited."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import Error, transaction

from billing.credits import CreditState, credit_balances, credit_grant
from billing.ledger import balances
from billing.models import Credit, Statement, StatementLine
from billing.statements import statement_run
from tenants import scope
from tenants.errors import Invalid
from tests.billing.prices import hold, label, list_prices, utc
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
NOW = utc("2026-05-10T12:00")
D = Decimal


@pytest.fixture
def acme():
    return make_tenant("acme")


def grant(tenant, amount: str = "100.00", **facts) -> Credit:
    return credit_grant(tenant=tenant, amount=D(amount), **({"reason": "Welcome", "now": NOW} | facts))


def balance(tenant, credit: Credit, now: dt.datetime = NOW):
    with scope.tenant(tenant.id):
        return credit_balances([credit], now=now)[0]


def state(tenant, month: str, credit: Credit, used: str, kind: str) -> None:
    """Write a statement of a month that uses some of a credit."""
    start = utc(f"{month}-01")
    facts = {"month": start.date(), "period_start": start, "period_end": start, "computed_at": start}
    with scope.tenant(tenant.id):
        statement = Statement.objects.create(currency="EUR", total=0, **facts)
        StatementLine.objects.create(
            statement=statement, position=1, kind=StatementLine.Kind.CREDIT, basis="allocation", charged=True,
            service_month=start.date(), service_start=start, service_end=start, sku="credit", description="Credit",
            quantity=1, unit="credit", unit_price=0, amount=-D(used), credit_id=credit.id,
        )  # fmt: skip
        if kind == "final":
            Statement.objects.filter(id=statement.id).update(
                state="final",
                number=f"{month}-000001",
                finalized_at=start,
                inputs_sha256="0",
                document_sha256="0",
            )


def test_what_is_left_is_the_grant_less_what_final_statements_used(acme):
    credit = grant(acme)
    state(acme, "2026-05", credit, "30.00", "final")
    state(acme, "2026-06", credit, "20.00", "final")
    state(acme, "2026-07", credit, "50.00", "draft")
    found = balance(acme, credit)
    assert (found.used, found.left, found.state) == (D("50"), D("50"), CreditState.AVAILABLE)
    state(acme, "2026-08", credit, "50.00", "final")
    found = balance(acme, credit)
    assert (found.left, found.state) == (D("0"), CreditState.USED)


def test_statements_take_off_no_more_than_there_is_to_pay_and_no_more_than_is_left(acme):
    list_prices()
    credit = grant(acme, "10.00", now=utc("2026-05-10"))
    project = default_project(acme)
    chat = label(project, "chat")
    hold(project, chat, "2026-05-03T00:00", "2026-05-03T02:00")  # 7.20
    hold(project, chat, "2026-06-03T00:00", "2026-06-03T02:00")
    hold(project, chat, "2026-07-03T00:00", "2026-07-03T02:00")
    totals, left = [], []
    for month in (5, 6, 7):
        now = utc(f"2026-{month + 1:02}-20")
        with scope.platform("a test"):
            statement_run(month=dt.date(2026, month, 1), now=now, close=True)
            statement = Statement.objects.get(month=dt.date(2026, month, 1))
        assert statement.state == Statement.State.FINAL
        totals.append(statement.total)
        left.append(balance(acme, credit, now).left)
    assert totals == [D("0"), D("4.40"), D("7.20")]
    assert left == [D("2.80"), D("0"), D("0")]
    with scope.tenant(acme.id):
        assert balances(currency="EUR")["credit_balance"] == 0
        assert balances(currency="EUR")["granted_credits"] == D("10")


def test_a_credit_comes_and_expires(acme):
    credit = grant(acme, available_from=utc("2026-06-01"), expires_at=utc("2026-09-01"))
    states = [balance(acme, credit, utc(when)).state for when in ("2026-05-31", "2026-06-01", "2026-09-01")]
    assert states == [CreditState.COMING, CreditState.AVAILABLE, CreditState.EXPIRED]
    assert balance(acme, credit, utc("2026-09-01")).left == 0


def test_what_expired_in_a_month_without_a_statement_leaves_the_ledger_with_the_next_one(acme):
    list_prices()
    grant(acme, expires_at=utc("2026-05-20"))
    hold(default_project(acme), label(default_project(acme), "chat"), "2026-06-03T00:00", "2026-06-03T02:00")
    assert statement_run(month=dt.date(2026, 6, 1), now=utc("2026-07-20"), close=True).closed == 1
    with scope.tenant(acme.id):
        found = balances(currency="EUR")
    assert (found["credit_balance"], found["expired_credits"]) == (0, D("-100"))


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "0.001"}, "amount"),
        ({"amount": "Infinity"}, "amount"),
        ({"amount": "1e13"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"reason": "  "}, "reason"),
        ({"available_from": utc("2026-04-30")}, "available_from"),
        ({"available_from": dt.datetime(2026, 6, 1)}, "available_from"),
        ({"expires_at": utc("2026-05-09")}, "expires_at"),
    ],
)
def test_what_cannot_be_granted_is_refused_by_field(acme, facts, field):
    with pytest.raises(Invalid) as refused:
        grant(acme, **facts)
    assert list(refused.value.errors) == [field]


def test_a_currency_without_cents_has_credits_without(acme):
    with scope.platform("a test"):
        type(acme).objects.filter(id=acme.id).update(currency="JPY")
    acme.currency = "JPY"
    with pytest.raises(Invalid, match="0 decimal places"):
        grant(acme, "1.5")
    assert grant(acme, "150").currency == "JPY"


def test_a_grant_is_the_tenants_alone_and_never_changes(acme):
    credit, other = grant(acme), make_tenant("other")
    with scope.tenant(other.id):
        assert not Credit.objects.exists()
    with scope.tenant(acme.id):
        for change in (lambda rows: rows.update(amount=1), lambda rows: rows.delete()):
            with pytest.raises(Error, match="never change"), transaction.atomic():
                change(Credit.objects.filter(id=credit.id))
