"""Lines of every kind: commitments, shared endpoints, missed targets, granted credits."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing.ledger import balances, credit_posted, ledger_check
from billing.models import (
    Attainment,
    Commitment,
    Credit,
    EndpointLabel,
    SharedPeriod,
    Statement,
    StatementLine,
)
from billing.statements import statement_draft, statement_run
from billing.statements.replay import statement_replay
from tenants import scope
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

D = Decimal
MAY, JUNE, JULY = dt.date(2026, 5, 1), dt.date(2026, 6, 1), dt.date(2026, 7, 1)


@pytest.fixture
def tenant(db):
    list_prices()
    return make_tenant()


@pytest.fixture
def project(tenant):
    return default_project(tenant)


def close(month: dt.date = MAY) -> None:
    following = (month + dt.timedelta(days=32)).replace(day=4)
    statement_run(month=month, now=utc(f"{following}"), close=True)
    with scope.platform("test"):
        assert ledger_check() == []
        for statement in Statement.objects.filter(state="final"):
            assert statement_replay(statement).problems == ()


def lines_of(tenant, month=MAY, **only) -> list[StatementLine]:
    with scope.tenant(tenant.id):
        return list(StatementLine.objects.filter(statement__month=month, **only))


def statement_of(tenant, month=MAY) -> Statement:
    with scope.tenant(tenant.id):
        return Statement.objects.get(month=month)


def commit(tenant, gpus: int, rate: str, start="2026-05-01", end="2026-06-01", **facts) -> Commitment:
    with scope.tenant(tenant.id):
        return Commitment.objects.create(
            name="reserved", gpu_type="h100_sxm", gpus=gpus, rate=D(rate), currency="EUR", starts_at=utc(start),
            ends_at=utc(end), **facts,
        )  # fmt: skip


def grant(tenant, amount: str, *, since="2026-05-01", until: str | None = None, reason="sorry") -> Credit:
    with scope.tenant(tenant.id):
        credit = Credit.objects.create(
            amount=D(amount), currency="EUR", reason=reason, available_from=utc(since),
            expires_at=until and utc(until),
        )  # fmt: skip
        credit_posted(credit=credit)
        return credit


def share(endpoint_id, owner, start: str, end: str | None = None) -> None:
    with scope.platform("test"):
        SharedPeriod.objects.create(
            owner=owner, endpoint_id=endpoint_id, name="house-chat", model="guide", slo_class="standard",
            started_at=utc(start), ended_at=end and utc(end),
        )  # fmt: skip


def test_a_commitment_is_charged_held_or_not_and_covers_what_is_held(tenant, project):
    commit(tenant, 2, "2.00", "2026-05-10T00:00", "2026-05-11T00:00")
    chat = label(project, "chat")
    hold(project, chat, "2026-05-10T00:00", "2026-05-10T10:00", gpus=3)
    close()
    found = [
        (line.kind, line.quantity, line.unit_price, line.amount, line.list_amount, line.effective_amount)
        for line in lines_of(tenant)
    ]
    assert found == [
        # 20 GPU-hours covered: nothing again, at list 72, their share of the commitment 40.
        ("idle_gpu_time", 20, 0, 0, 72, 40),
        ("idle_gpu_time", 10, D("3.60"), 36, 36, 36),
        ("commitment", 48, 2, 96, 96, 56),
    ]
    statement = statement_of(tenant)
    assert statement.total == 132 == sum(line.effective_amount for line in lines_of(tenant))
    with scope.tenant(tenant.id):
        assert balances(currency="EUR") == {"receivable": 132, "idle_gpu_time": -36, "commitments": -96}


def test_a_commitment_alone_makes_a_statement(tenant):
    commit(tenant, 1, "2.00", "2026-05-31T00:00", "2026-07-01")
    close()
    assert statement_of(tenant).total == 48


def test_a_tenants_own_price_is_charged_and_the_list_price_stands_beside(tenant, project):
    price("gpu_hour", "3.00", tenant=tenant.slug, gpu_type="h100_sxm")
    hold(project, label(project, "chat"), "2026-05-10T00:00", "2026-05-10T10:00")
    close()
    (line,) = lines_of(tenant)
    assert (line.unit_price, line.amount, line.list_unit_price, line.list_amount) == (3, 30, D("3.60"), 36)


@pytest.fixture
def house(tenant, project):
    """Share an endpoint of ``tenant`` on 10 May, on 2 GPUs, with a user that is another tenant."""
    chat, user = label(project, "chat"), make_tenant()
    hold(project, chat, "2026-05-10T00:00", "2026-05-11T12:00", gpus=2)
    share(chat, tenant, "2026-05-10T00:00", "2026-05-11T00:00")
    for asker, tokens in ((project, 1_000_000), (default_project(user), 2_000_000)):
        add_usage(asker, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=tokens)
    add_usage(project, at=utc("2026-05-11T02:00"), endpoint_id=chat, output_tokens=4_000_000)
    return chat, user


def test_a_shared_endpoint_is_charged_by_the_token_and_its_gpu_time_split_by_use(tenant, project, house):
    _, user = house
    close()
    found = [
        (line.kind, line.charged, line.quantity, line.amount, line.endpoint_name) for line in lines_of(tenant)
    ]
    assert found == [
        ("gpu_time", True, 2, D("7.20"), "chat"),  # on the 11th, dedicated again
        ("gpu_time", False, 2, D("7.20"), "chat"),  # the hour in which it was asked while it was shared
        ("idle_gpu_time", True, 22, D("79.20"), "chat"),
        ("idle_gpu_time", False, 46, D("165.60"), "chat"),
        ("tokens", True, 1, D("1.50"), "chat"),
        ("tokens", False, 4, D("6.00"), "chat"),
        ("shared_gpu_time", False, D("0.6666666667"), D("2.40"), "chat"),
    ]
    (tokens, shared) = lines_of(user)
    assert (tokens.kind, tokens.charged, tokens.amount, tokens.endpoint_name) == (
        "tokens",
        True,
        3,
        "house-chat",
    )
    assert (shared.kind, shared.charged, shared.amount, shared.quantity) == (
        "shared_gpu_time", False, D("4.80"), D("1.3333333333"),
    )  # fmt: skip
    assert shared.how == [
        {"cost": "7.200000000000000", "weight": "3.000000000000000", "weights": "4.500000000000000"}
    ]
    assert statement_of(user).total == 3
    assert statement_of(tenant).total == D("87.90")


def test_shares_sum_to_the_cost_whatever_the_weights(tenant, project):
    chat = label(project, "chat")
    hold(project, chat, "2026-05-10T00:00", "2026-05-10T00:20", gpus=1)
    share(chat, tenant, "2026-05-01T00:00")
    users = [make_tenant() for _ in range(7)]
    for number, user in enumerate(users, start=1):
        add_usage(default_project(user), at=utc("2026-05-10T00:00"), endpoint_id=chat, output_tokens=number)
    close()
    shares = [line.amount for user in users for line in lines_of(user, kind="shared_gpu_time")]
    assert len(shares) == 7
    assert sum(shares) == sum(line.amount for line in lines_of(tenant, kind="gpu_time")) == D("1.20")


def test_a_tenant_learns_nothing_of_others_from_a_draft(tenant, project, house):
    _, user = house
    with scope.tenant(user.id):
        statement = statement_draft(month=MAY, now=utc("2026-05-20"))
        assert [line.kind for line in statement.lines.all()] == ["tokens", "shared_gpu_time"]
        assert {line.tenant_id for line in StatementLine.objects.all()} == {user.id}


@pytest.mark.parametrize(
    ("attained", "missed"),
    [
        ({"requests": 1000, "failed": 1}, ""),
        ({"requests": 1000, "failed": 2}, "availability 99.8 % of 99.9 % (2 of 1,000 requests failed)"),
        ({"requests": 100, "hours": 20, "ttft_met": 19, "ttft_p95_ms": 500}, ""),
        (
            {"requests": 100, "hours": 20, "ttft_met": 18, "ttft_p95_ms": 500},
            "TTFT p95 within 500 ms in 18 of 20 hours",
        ),
        (
            {"requests": 100, "hours": 20, "itl_met": 0, "itl_p95_ms": 40},
            "ITL p95 within 40 ms in 0 of 20 hours",
        ),
        ({"requests": 0, "failed": 0, "hours": 0}, ""),
    ],
)
def test_a_missed_target_gives_a_part_of_the_endpoints_charge_back(tenant, project, attained, missed):
    chat = label(project, "chat")
    hold(project, chat, "2026-05-10T00:00", "2026-05-10T10:00")
    hold(project, label(project, "other"), "2026-05-10T00:00", "2026-05-10T10:00")
    with scope.tenant(tenant.id):
        Attainment.objects.create(
            endpoint_id=chat, project=project, day=dt.date(2026, 5, 10), slo_class="standard",
            availability=D("0.999"), credit_percent=D("12.5"), **attained,
        )  # fmt: skip
    close()
    found = lines_of(tenant, kind="slo_credit")
    if not missed:
        assert found == []
        return
    (line,) = found
    assert (line.amount, line.endpoint_id, line.charged) == (D("-4.50"), chat, True)
    assert line.description == f"12.5 % back: {missed}"
    statement = statement_of(tenant)
    assert (statement.charges, statement.credits, statement.total) == (72, D("-4.50"), D("67.50"))


def test_credits_pay_the_oldest_expiry_first_and_never_more_than_is_due(tenant, project):
    forever = grant(tenant, "100")
    soon = grant(tenant, "20", until="2026-06-15", reason="launch")
    chat = label(project, "chat")
    hold(project, chat, "2026-05-10T00:00", "2026-05-10T10:00")
    hold(project, chat, "2026-06-10T00:00", "2026-06-10T10:00")
    hold(project, chat, "2026-07-10T00:00", "2026-07-11T10:00")
    for month in (MAY, JUNE, JULY):
        close(month)
    used = [
        [(line.credit_id, line.amount) for line in lines_of(tenant, month, kind="credit")]
        for month in (MAY, JUNE, JULY)
    ]
    assert used == [
        [(soon.id, D(-20)), (forever.id, D(-16))],
        [(forever.id, D(-36))],
        [(forever.id, D(-48))],
    ]
    assert [statement_of(tenant, month).total for month in (MAY, JUNE, JULY)] == [0, 0, D("74.40")]
    with scope.tenant(tenant.id):
        found = balances(currency="EUR")
    assert (found["granted_credits"], found["credit_balance"]) == (120, 0)


def test_what_is_left_of_a_credit_expires_with_the_month(tenant, project):
    grant(tenant, "100", until="2026-05-20")
    hold(project, label(project, "chat"), "2026-05-10T00:00", "2026-05-10T10:00")
    close()
    with scope.tenant(tenant.id):
        found = balances(currency="EUR")
    assert (found["expired_credits"], found["credit_balance"], found.get("receivable", 0)) == (-64, 0, 0)


def test_drafts_of_two_months_do_not_spend_one_credit_twice(tenant, project):
    grant(tenant, "40")
    chat = label(project, "chat")
    hold(project, chat, "2026-05-10T00:00", "2026-05-10T10:00")
    hold(project, chat, "2026-06-01T00:00", "2026-06-01T10:00")
    for month in (MAY, JUNE):
        statement_run(month=month, now=utc("2026-06-02"))
    assert [statement_of(tenant, month).total for month in (MAY, JUNE)] == [0, 32]


def test_usage_of_an_engine_outside_berth_is_charged_by_the_token(tenant, project):
    outside = label(project, "outside")
    with scope.tenant(tenant.id):
        EndpointLabel.objects.filter(endpoint_id=outside).update(external=True)
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=outside, output_tokens=2_000_000)
    close()
    (line,) = lines_of(tenant)
    assert (line.kind, line.charged, line.basis, line.amount) == ("tokens", True, "usage", 3)
    assert statement_of(tenant).total == 3


def test_more_tenants_take_no_more_queries(tenant):
    users = [tenant, *(make_tenant() for _ in range(9))]
    for user in users:
        mine = default_project(user)
        hold(mine, label(mine, "chat"), "2026-05-10T00:00", "2026-08-10T10:00")
        commit(user, 1, "1.00", "2026-05-01", "2026-09-01")
        grant(user, "5")

    def queries(some) -> list[int]:
        counts = []
        for now, closes in (("2026-05-20", False), ("2026-06-02", False), ("2026-06-04", True)):
            with CaptureQueriesContext(connection) as captured:
                ids = [user.id for user in some]
                statement_run(month=MAY, now=utc(now), close=closes, tenant_ids=ids)
            counts.append(len(captured))
        return counts

    assert queries(users[:1]) == queries(users[1:])
