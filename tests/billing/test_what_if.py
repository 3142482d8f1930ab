"""A month rated anew by a book that is tried, against what is worked out by hand."""

from __future__ import annotations

import csv
import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from billing.books import book_create, book_price_set
from billing.models import Book, Commitment, SharedPeriod, Statement, StatementLine
from billing.statements import statement_draft, statement_run
from billing.what_if import month_rerated, skus_rerated
from tenants import scope
from tests.billing.prices import hold, label, list_prices, price, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant

pytestmark = pytest.mark.django_db
MAY = dt.date(2026, 5, 1)
NOW = utc("2026-06-10T12:00")
D = Decimal


@pytest.fixture
def acme():
    """Two H100-hours, one of them idle, on a dedicated endpoint in May."""
    list_prices()
    tenant = make_tenant("acme")
    project = default_project(tenant)
    chat = label(project, "chat")
    hold(project, chat, "2026-05-03T09:00", "2026-05-03T11:00")
    add_usage(project, at=utc("2026-05-03T09:30"), endpoint_id=chat, output_tokens=2_000_000)
    return tenant


@pytest.fixture
def book(acme) -> Book:
    made = book_create(name="cheaper")
    book_price_set(book=made, kind="gpu_hour", amount=D("2.70"), currency="EUR", gpu_type="h100_sxm")
    return made


def rerate(book: Book, now: dt.datetime = NOW):
    return month_rerated(month=MAY, book=book, now=now)


def test_a_dedicated_endpoint_is_rated_by_gpu_time_on_both_sides(acme, book):
    (row,) = rerate(book).tenants
    assert (row.slug, row.currency, row.state) == ("acme", "EUR", "")
    assert (row.before, row.after, row.amount, row.percent) == (D("7.20"), D("5.40"), D("-1.80"), D("-25.0"))


def test_what_is_before_is_what_the_statement_says_draft_or_final(acme, book):
    with scope.tenant(acme.id):
        draft = statement_draft(month=MAY, now=NOW)
    (row,) = rerate(book).tenants
    assert row.before == draft.total == D("7.20")
    assert (row.state, row.number) == (draft.state, "")


def test_a_price_of_the_book_that_begins_in_the_month_cuts_it_there(acme, book):
    book_price_set(
        book=book, kind="gpu_hour", amount=D("1.00"), currency="EUR", gpu_type="h100_sxm",
        effective_from=utc("2026-05-03T10:30"),
    )  # fmt: skip
    (row,) = rerate(book).tenants
    assert row.after == D("2.70") * 3 / 2 + D("0.50")


def test_a_tenants_own_price_wins_over_the_book_unless_the_book_holds_its_own_too(acme, book):
    price("gpu_hour", "3.00", tenant=acme)
    (row,) = rerate(book).tenants
    assert (row.before, row.after) == (D("6.00"), D("6.00"))
    book_price_set(book=book, kind="gpu_hour", amount=D("2.50"), currency="EUR", tenant=acme)
    (row,) = rerate(book).tenants
    assert (row.before, row.after) == (D("6.00"), D("5.00"))


def test_tokens_of_a_shared_endpoint_are_rated_for_each_who_called_it(acme, book):
    owner, caller = make_tenant("owner"), make_tenant("caller")
    project = default_project(owner)
    shared = label(project, "shared")
    hold(project, shared, "2026-05-04T09:00", "2026-05-04T11:00")
    with scope.platform("a test"):
        SharedPeriod.objects.create(
            owner=owner, endpoint_id=shared, name="shared", model="guide", slo_class="standard",
            started_at=utc("2026-05-01"),
        )  # fmt: skip
    add_usage(
        default_project(caller), at=utc("2026-05-04T09:30"), endpoint_id=shared, output_tokens=4_000_000
    )
    add_usage(project, at=utc("2026-05-04T09:30"), endpoint_id=shared, output_tokens=1_000_000)
    book_price_set(book=book, kind="class_factor", amount=D("2"), currency="EUR", slo_class="standard")
    rows = {row.slug: (row.before, row.after) for row in rerate(book).tenants}
    # 1.50 a million output tokens; each caller also sent 0.1 to 0.3 thousand input tokens, rounded away.
    assert rows["caller"] == (D("6.00"), D("12.00"))
    assert rows["owner"] == (D("1.50"), D("3.00"))


def test_a_commitment_is_paid_alike_on_both_sides(acme, book):
    with scope.tenant(acme.id):
        Commitment.objects.create(
            name="one", gpu_type="h100_sxm", gpus=1, rate=D("1.00"), currency="EUR",
            starts_at=utc("2026-05-03T10:00"), ends_at=utc("2026-05-03T20:00"),
        )  # fmt: skip
    (row,) = rerate(book).tenants
    assert (row.before, row.after) == (D("3.60") + 10, D("2.70") + 10)


def test_a_final_months_statement_is_named_and_left_as_it_is(acme, book):
    with scope.platform("a test"):
        statement_run(month=MAY, now=NOW, close=True)
        (statement,) = Statement.objects.all()
        before = list(StatementLine.objects.values_list("amount", "sku", "how"))
    assert statement.state == Statement.State.FINAL
    (row,) = rerate(book).tenants
    assert (row.state, row.number, row.before, row.after) == ("final", statement.number, D("7.20"), D("5.40"))
    with scope.platform("a test"):
        assert list(StatementLine.objects.values_list("amount", "sku", "how")) == before


def test_by_an_empty_book_nobody_would_pay_anything_else(acme):
    price("class_factor", "1.5", slo_class="standard", tenant=acme)
    with scope.tenant(acme.id):
        Commitment.objects.create(
            name="one", gpu_type="h100_sxm", gpus=1, rate=D("1.00"), currency="EUR",
            starts_at=utc("2026-05-03T10:00"), ends_at=utc("2026-05-03T20:00"),
        )  # fmt: skip
    (row,) = rerate(book_create(name="empty")).tenants
    assert row.before == row.after == D("13.60")
    assert (row.amount, row.percent) == (0, 0)


def test_sums_are_by_currency_and_the_largest_change_comes_first(acme, book):
    for slug, hours in (("big", 10), ("none", 0)):
        project = default_project(make_tenant(slug))
        if hours:
            hold(project, label(project, "chat"), "2026-05-03T00:00", f"2026-05-03T{hours}:00")
    found = rerate(book)
    assert [row.slug for row in found.tenants] == ["big", "acme"]
    assert {currency: (total.before, total.after) for currency, total in found.totals.items()} == {
        "EUR": (D("43.20"), D("32.40"))
    }


def test_by_sku_the_two_sides_sum_to_the_tenants(acme, book):
    rows = skus_rerated(month=MAY, book=book, tenant=acme, now=NOW)
    assert {row.sku: (row.before, row.after) for row in rows} == {
        "gpu-hours:h100_sxm:de-1": (D("3.60"), D("2.70")),
        "idle-gpu-hours:h100_sxm:de-1": (D("3.60"), D("2.70")),
    }


def test_a_month_that_runs_counts_until_now(acme, book):
    (row,) = rerate(book, utc("2026-05-03T09:30")).tenants
    assert (row.before, row.after) == (D("1.80"), D("1.35"))
    assert month_rerated(month=dt.date(2026, 7, 1), book=book, now=NOW).tenants == ()


def test_queries_do_not_grow_with_the_tenants(acme, book, django_assert_max_num_queries):
    for _ in range(12):
        project = default_project(make_tenant())
        hold(project, label(project, str(uuid.uuid4())), "2026-05-03T00:00", "2026-05-03T01:00")
    with django_assert_max_num_queries(23):
        assert len(rerate(book).tenants) == 13


def test_the_command_prints_or_writes_the_table(acme, book, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("billing.management.commands.rerate.timezone.now", lambda: NOW)
    call_command("rerate", month="2026-05", book="cheaper")
    assert "2026-05 by cheaper: 7.20 -> 5.40 EUR (-1.80)" in capsys.readouterr().out
    file = tmp_path / "may.csv"
    call_command("rerate", month="2026-05", book="cheaper", csv=file)
    (row,) = csv.DictReader(file.open())
    assert (row["tenant"], row["difference"], row["percent"]) == ("acme", "-1.80", "-25.0")


@pytest.mark.parametrize(
    ("month", "name"), [("2026-13", "cheaper"), ("May", "cheaper"), ("2026-05", "dearer")]
)
def test_the_command_says_what_is_wrong(acme, book, month, name, tmp_path):
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("rerate", month="2026-05", book="cheaper", csv=tmp_path / "absent" / "may.csv")
    with pytest.raises(CommandError, match=r"is not a month|known are cheaper"):
        call_command("rerate", month=month, book=name)
