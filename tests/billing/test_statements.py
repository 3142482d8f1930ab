"""Draft statements: arithmetic, month boundaries, rounding, repeats."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal

import pytest
from django.db import connection

from billing.costs import cost_summary
from billing.errors import StatementIsFinal
from billing.metering.ingest import ingest
from billing.models import Statement, StatementLine
from billing.statements import statement_draft
from tenants import scope
from tenants.errors import Invalid
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage, batch, roll_up_until, segment
from tests.factories import default_project, make_tenant

D = Decimal
MAY = dt.date(2026, 5, 1)
LATER = utc("2026-07-01")


@pytest.fixture
def tenant(db):
    list_prices()
    return make_tenant()


@pytest.fixture
def project(tenant):
    return default_project(tenant)


@pytest.fixture
def chat(project):
    return label(project, "chat")


def draft(tenant, month=MAY, now=LATER) -> tuple[Statement, list[StatementLine]]:
    with scope.tenant(tenant.id):
        statement = statement_draft(month=month, now=now)
        return statement, list(statement.lines.all())


def test_lines_by_endpoint_and_sku(tenant, project, chat):
    price("gpu_hour", "4.20", utc("2026-05-10T12:00"), gpu_type="h100_sxm")
    hold(project, chat, "2026-05-10T10:00", "2026-05-10T15:00", gpus=2)
    hold(project, label(project, "search"), "2026-05-10T10:00", "2026-05-10T10:20")
    add_usage(
        project, at=utc("2026-05-10T11:00"), endpoint_id=chat,
        input_tokens=3_000_000, cached_tokens=1_000_000, output_tokens=500_001,
    )  # fmt: skip
    statement, lines = draft(tenant)
    found = [
        (each.endpoint_name, each.sku, each.charged, each.quantity, each.unit_price, each.amount)
        for each in lines
    ]
    assert found == [
        ("chat", "gpu-hours:h100_sxm:de-1", True, D("2"), D("3.60"), D("7.20")),
        ("chat", "idle-gpu-hours:h100_sxm:de-1", True, D("2"), D("3.60"), D("7.20")),
        ("chat", "idle-gpu-hours:h100_sxm:de-1", True, D("6"), D("4.20"), D("25.20")),
        ("chat", "cached-tokens:guide:standard", False, D("1"), D("0.10"), D("0.10")),
        ("chat", "input-tokens:guide:standard", False, D("2"), D("0.50"), D("1.00")),
        ("chat", "output-tokens:guide:standard", False, D("0.500001"), D("1.50"), D("0.7500")),
        ("search", "idle-gpu-hours:h100_sxm:de-1", True, D("0.3333333333"), D("3.60"), D("1.20")),
    ]
    assert statement.total == statement.charges == D("40.80")
    assert [each.position for each in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert {each.project_name for each in lines} == {"Default"}
    assert [each.kind for each in lines[:2]] == ["gpu_time", "idle_gpu_time"]
    assert (lines[0].unit, lines[0].gpu_type, lines[0].region) == ("GPU-hour", "h100_sxm", "de-1")
    assert (lines[0].list_amount, lines[0].effective_amount, lines[3].effective_amount) == (
        D("7.20"),
        D("7.20"),
        0,
    )
    assert lines[0].how == [
        {
            "price": lines[0].price_id, "unit": "gpu_second", "quantity": "7200.000000",
            "unit_price": "3.6000000000", "per": 3600, "factor": "1", "product": "7.200000000000000",
            "start": "2026-05-01T00:00:00+00:00", "end": "2026-05-10T12:00:00+00:00",
        }
    ]  # fmt: skip


def test_the_factor_of_the_class_is_in_the_unit_price_and_in_how_it_was_reached(tenant, project, chat):
    hold(project, chat, "2026-05-10T10:00", "2026-05-10T12:00", price_factor=D("1.25"))
    statement, (line,) = draft(tenant)
    per_hour = D(line.how[0]["unit_price"])
    assert line.unit_price == per_hour * D("1.25")
    assert line.amount == statement.total == (2 * per_hour * D("1.25")).quantize(D("0.01"))
    assert D(line.how[0]["factor"]) == D("1.25")


@pytest.mark.parametrize(
    ("month", "hours", "start", "end"),
    [
        ("2026-03-01", 743, "2026-02-28T23:00", "2026-03-31T22:00"),
        ("2026-10-01", 745, "2026-09-30T22:00", "2026-10-31T23:00"),
        ("2026-02-01", 672, "2026-01-31T23:00", "2026-02-28T23:00"),
    ],
)
def test_month_of_the_tenants_zone_with_its_clock_changes(db, month, hours, start, end):
    price("gpu_hour", "1.00")
    tenant = make_tenant(time_zone="Europe/Berlin")
    project = default_project(tenant)
    hold(project, label(project, "chat"), start, None)
    statement, lines = draft(tenant, dt.date.fromisoformat(month), now=utc("2026-12-01"))
    assert (statement.period_start, statement.period_end) == (utc(start), utc(end))
    assert statement.total == hours
    assert [line.quantity for line in lines] == [hours]


def test_months_meet_without_gap_or_overlap(tenant, project, chat):
    hold(project, chat, "2026-04-30T23:30", "2026-05-01T00:30")
    for at in ("2026-04-30T23:00", "2026-05-01T00:00"):
        add_usage(project, at=utc(at), endpoint_id=chat, output_tokens=1_000_000)
    april, april_lines = draft(tenant, dt.date(2026, 4, 1))
    may, may_lines = draft(tenant)
    assert april.total == may.total == D("1.80")
    assert april_lines[1].quantity == may_lines[1].quantity == 1


def test_rounding_keeps_the_sum(tenant, project):
    price("gpu_hour", "1.00", gpu_type="h100_sxm", region="de-1")
    for name in ("a", "b", "c"):
        hold(project, label(project, name), "2026-05-01T00:00", "2026-05-01T00:20")
    statement, lines = draft(tenant)
    assert sorted(line.amount for line in lines) == [D("0.33"), D("0.33"), D("0.34")]
    assert statement.total == sum(line.amount for line in lines) == D("1.00")


def test_currency_without_minor_unit(db):
    price("gpu_hour", "500.5", currency="JPY")
    tenant = make_tenant(currency="JPY")
    project = default_project(tenant)
    hold(project, label(project, "chat"), "2026-05-01T00:00", "2026-05-01T01:00")
    assert draft(tenant)[0].total == 501


def test_same_again_leaves_the_lines_alone(tenant, project, chat):
    hold(project, chat, "2026-05-01T00:00", "2026-05-01T01:00")
    first, lines = draft(tenant)
    again, lines_again = draft(tenant, month=dt.date(2026, 5, 17))
    assert again.id == first.id
    assert [line.id for line in lines] == [line.id for line in lines_again]


def test_open_allocation_grows_until_the_month_ends(tenant, project, chat):
    hold(project, chat, "2026-05-31T22:00", None)
    assert draft(tenant, now=utc("2026-05-31T23:00"))[0].total == D("3.60")
    assert draft(tenant, now=LATER)[0].total == D("7.20")


def test_statement_agrees_with_the_cost_page(tenant, project, chat):
    hold(project, chat, "2026-05-01T00:00", "2026-05-12T07:13:21.5")
    add_usage(project, at=utc("2026-05-10T11:00"), endpoint_id=chat, input_tokens=777, output_tokens=12_345)
    statement, lines = draft(tenant)
    with scope.tenant(tenant.id):
        costs = cost_summary(start=statement.period_start, end=statement.period_end, now=LATER)
    assert abs(statement.total - costs.total.allocation) <= D("0.005")
    usage = sum(line.amount for line in lines if not line.charged)
    assert abs(usage - costs.total.usage) <= D("0.0002")


def test_what_has_no_price_is_a_line_that_says_so(tenant, project, chat):
    hold(project, chat, "2026-05-01T00:00", "2026-05-01T01:00", gpu_type="l40s")
    statement, (line,) = draft(tenant)
    assert statement.total == line.amount == 0
    assert line.description == "Idle GPU-hours, l40s, de-1 (no price was set)"
    assert line.how == [{"missing": "no gpu_hour price for gpu_type l40s, region de-1"}]


def test_month_that_has_not_begun_is_refused(tenant):
    with pytest.raises(Invalid, match="2026-08 has not begun"):
        draft(tenant, dt.date(2026, 8, 1))


def test_final_statement_stays(tenant, project, chat):
    statement, _ = draft(tenant)
    with scope.tenant(tenant.id):
        Statement.objects.filter(id=statement.id).update(
            state=Statement.State.FINAL, number="2026-05-000001", finalized_at=LATER,
            inputs_sha256="0" * 64, document_sha256="0" * 64,
        )  # fmt: skip
    with pytest.raises(StatementIsFinal):
        draft(tenant)


def test_other_tenants_statements_are_apart(tenant, project, chat):
    hold(project, chat, "2026-05-01T00:00", "2026-05-01T01:00")
    other, lines = draft(make_tenant())
    assert (other.total, lines) == (0, [])


def test_late_usage_changes_the_draft(committed_db):
    list_prices()
    tenant = make_tenant()
    project = default_project(tenant)
    chat = label(project, "chat")
    at, now = utc("2026-05-20T10:00"), utc("2026-06-03")

    def arrive(sequence: int) -> None:
        sent = segment(tenant, sequence, at=at, endpoint_id=str(chat), output_tokens=1_000_000)
        ingest(batch=batch(sent, sent), now=now)
        roll_up_until(tenant, sequence * 3)

    def output_tokens() -> list[Decimal]:
        return [line.quantity for line in draft(tenant)[1] if line.sku.startswith("output-tokens")]

    assert output_tokens() == []
    arrive(1)
    assert output_tokens() == [1]
    arrive(2)
    assert output_tokens() == [2]


def test_drafts_at_once_make_one_statement(committed_db):
    list_prices()
    tenant = make_tenant()
    project = default_project(tenant)
    for name in ("a", "b", "c"):
        hold(project, label(project, name), "2026-05-01T00:00", "2026-05-02T00:00")
    found, errors = [], []

    def work() -> None:
        try:
            found.append(draft(tenant)[0].id)
        except Exception as error:  # noqa: BLE001
            errors.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert errors == []
    assert len(set(found)) == 1
    statement, lines = draft(tenant)
    assert statement.total == D("259.20")
    assert len(lines) == 3
