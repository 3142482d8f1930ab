"""What comes late to a closed month: noted by the database, charged as the difference on the next statement."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.allocations import allocation_close
from billing.documents.months import month_statement
from billing.ledger import ledger_check
from billing.models import Allocation, Attainment, BillingAccount, LateChange, Statement, StatementLine
from billing.statements import account_unpark, statement_draft, statement_run
from tenants import scope
from tenants.errors import NotFound
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


@pytest.fixture
def chat(project):
    endpoint_id = label(project, "chat")
    hold(project, endpoint_id, "2026-05-10T10:00", "2026-05-10T15:00")
    hold(project, endpoint_id, "2026-06-10T10:00", "2026-06-10T11:00")
    return endpoint_id


def close(month: dt.date, **options) -> None:
    following = (month + dt.timedelta(days=32)).replace(day=4)
    assert statement_run(month=month, now=utc(f"{following}"), close=True, **options).closed == 1


def statement_of(tenant, month) -> Statement:
    with scope.tenant(tenant.id):
        return Statement.objects.get(month=month)


def corrections(tenant, month) -> list[tuple]:
    with scope.tenant(tenant.id):
        return [
            (f"{line.service_month:%Y-%m}", line.sku, line.charged, line.quantity, line.amount)
            for line in StatementLine.objects.filter(statement__month=month, correction=True)
        ]


def test_usage_that_comes_late_turns_idle_time_into_used_time(tenant, project, chat):
    close(MAY)
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=2_000_000)
    close(JUNE)
    assert corrections(tenant, JUNE) == [
        ("2026-05", "gpu-hours:h100_sxm:de-1", True, 1, D("3.60")),
        ("2026-05", "idle-gpu-hours:h100_sxm:de-1", True, -1, D("-3.60")),
        ("2026-05", "output-tokens:guide:standard", False, 2, D("3.00")),
    ]
    assert statement_of(tenant, MAY).total == D("18.00")
    assert statement_of(tenant, JUNE).total == D("3.60")
    with scope.tenant(tenant.id):
        line = StatementLine.objects.filter(correction=True).first()
        assert line.description == "Correction of 2026-05: GPU-hours, h100_sxm, de-1"
        assert line.how[0]["now"]["quantity"] == "1.0000000000"
        assert not LateChange.objects.exists()


def test_what_is_corrected_once_is_not_corrected_again(tenant, project, chat):
    close(MAY)
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=2_000_000)
    close(JUNE)
    hold(project, chat, "2026-07-10T10:00", "2026-07-10T11:00")
    close(JULY)
    assert corrections(tenant, JULY) == []


def test_a_draft_shows_corrections_and_keeps_their_note(tenant, project, chat):
    close(MAY)
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=2_000_000)
    with scope.tenant(tenant.id):
        for _ in range(2):
            statement_draft(month=JUNE, now=utc("2026-06-20"))
            assert len(corrections(tenant, JUNE)) == 3
        assert LateChange.objects.count() == 1


def test_only_the_earliest_open_statement_holds_corrections(tenant, project, chat):
    close(MAY)
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=2_000_000)
    hold(project, chat, "2026-07-01T10:00", "2026-07-01T11:00")
    statement_run(month=JUNE, now=utc("2026-07-02"))
    statement_run(month=JULY, now=utc("2026-07-02"))
    assert len(corrections(tenant, JUNE)) == 3
    assert corrections(tenant, JULY) == []


def test_gpu_time_that_ended_earlier_is_given_back_and_carried_forward(tenant, project):
    price("gpu_hour", "3.60", gpu_type="l40s")
    endpoint_id = label(project, "chat")
    allocation = hold(project, endpoint_id, "2026-05-10T00:00", None)
    close(MAY)
    assert statement_of(tenant, MAY).total == D("3.60") * 22 * 24
    with scope.tenant(tenant.id):
        allocation_close(replica_id=allocation.replica_id, ended_at=utc("2026-05-11T00:00"))
    hold(project, endpoint_id, "2026-06-01T00:00", "2026-06-02T00:00")
    close(JUNE)
    june = statement_of(tenant, JUNE)
    assert corrections(tenant, JUNE) == [
        ("2026-05", "idle-gpu-hours:h100_sxm:de-1", True, -21 * 24, -D("3.60") * 21 * 24)
    ]
    assert june.total == 0
    with scope.tenant(tenant.id):
        carried = june.lines.get(sku="carried-forward")
        assert carried.amount == D("3.60") * 20 * 24
    hold(project, endpoint_id, "2026-07-01T00:00", "2026-07-21T00:00")
    close(JULY)
    july = statement_of(tenant, JULY)
    with scope.tenant(tenant.id):
        assert july.lines.get(sku="carried-forward").amount == -carried.amount
    assert july.total == 0
    with scope.platform("test"):
        assert ledger_check() == []


def test_a_month_in_which_no_run_came_by_goes_onto_the_next_statement(tenant, project, chat):
    close(JUNE)
    with scope.tenant(tenant.id):
        assert not Statement.objects.filter(month=MAY).exists()
    assert corrections(tenant, JUNE) == [("2026-05", "idle-gpu-hours:h100_sxm:de-1", True, 5, D("18.00"))]
    assert statement_of(tenant, JUNE).total == D("21.60")


def test_a_month_that_was_charged_by_corrections_is_not_charged_by_a_statement_too(tenant, project, chat):
    close(JUNE)
    with scope.tenant(tenant.id), pytest.raises(NotFound, match="There is no statement of 2026-05"):
        month_statement(month=MAY, now=utc("2026-07-05"))
    assert statement_run(month=MAY, now=utc("2026-07-05"), close=True).closed == 0
    with scope.tenant(tenant.id):
        assert [statement.total for statement in Statement.objects.all()] == [D("21.60")]


def test_what_comes_late_for_a_month_without_a_statement(tenant, project):
    endpoint_id = label(project, "chat")
    hold(project, endpoint_id, "2026-06-10T10:00", "2026-06-10T11:00")
    hold(project, endpoint_id, "2026-07-10T10:00", "2026-07-10T11:00")
    close(JUNE)
    hold(project, endpoint_id, "2026-05-10T10:00", "2026-05-10T12:00")
    close(JULY)
    assert corrections(tenant, JULY) == [("2026-05", "idle-gpu-hours:h100_sxm:de-1", True, 2, D("7.20"))]
    assert statement_of(tenant, JULY).total == D("10.80")


def test_late_failures_are_judged_again(tenant, project, chat):
    attained = {
        "endpoint_id": chat, "project": project, "day": dt.date(2026, 5, 10), "slo_class": "standard",
        "availability": D("0.99"), "credit_percent": D(10), "requests": 1000, "failed": 0, "hours": 5,
    }  # fmt: skip
    with scope.tenant(tenant.id):
        row = Attainment.objects.create(**attained)
    close(MAY)
    assert statement_of(tenant, MAY).credits == 0
    with scope.tenant(tenant.id):
        Attainment.objects.filter(id=row.id).update(failed=50)
    close(JUNE)
    assert corrections(tenant, JUNE) == [("2026-05", "slo-credit:standard", True, 1, D("-1.80"))]
    with scope.tenant(tenant.id):
        Attainment.objects.filter(id=row.id).update(requests=100_000)
    hold(project, chat, "2026-07-10T10:00", "2026-07-10T11:00")
    close(JULY)
    assert corrections(tenant, JULY) == [("2026-05", "slo-credit:standard", True, 1, D("1.80"))]


def test_a_change_in_an_open_month_is_no_late_change(tenant, project, chat):
    close(MAY)
    add_usage(project, at=utc("2026-06-10T10:00"), endpoint_id=chat, output_tokens=2_000_000)
    hold(project, chat, "2026-06-10T10:00", None)
    with scope.tenant(tenant.id):
        assert not LateChange.objects.exists()
        Allocation.objects.filter(ended_at=None).update(ended_at=timezone.now())
        assert not LateChange.objects.exists()


def test_a_correction_in_another_currency_parks_the_account(tenant, project, chat):
    price("gpu_hour", "5.00", currency="USD")
    close(MAY)
    with scope.platform("test"):
        tenant.currency = "USD"
        tenant.save()
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, output_tokens=2_000_000)
    assert statement_run(month=JUNE, now=utc("2026-07-04"), close=True).parked == 1
    with scope.tenant(tenant.id):
        assert BillingAccount.objects.get().reason.startswith(
            "what changed of 2026-05, charged in EUR, cannot go"
        )
        assert LateChange.objects.exists()
    account_unpark(tenant=tenant)
    close(JUNE)
    assert (statement_of(tenant, JUNE).currency, corrections(tenant, JUNE)) == ("USD", [])
    with scope.tenant(tenant.id):
        assert not LateChange.objects.exists()
