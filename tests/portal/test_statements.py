"""Statements as pages: the months, one of them, its files."""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import BillingAccount, Statement
from tenants import scope
from tests.billing.prices import hold, label, list_prices, utc
from tests.billing.statements import Draft, Kind, every_kind
from tests.factories import default_project

pytestmark = pytest.mark.django_db


@pytest.fixture
def project(world):
    return default_project(world.tenant)


@pytest.fixture
def statement(world, project):
    return every_kind(world.tenant, project)


def page(world, path: str = "", who: str = "billing"):
    answer = world.browser(who).get(f"/t/nord/statements{path}")
    assert answer.status_code == 200
    return answer


def test_months_with_what_they_came_to(world, statement):
    answer = page(world)
    rows = {f"{row['statement'].month:%Y-%m}": row for row in answer.context["rows"]}
    assert rows["2026-05"]["statement"] == statement
    text = answer.content.decode()
    assert "2026-05-000001" in text
    assert "2,182.30 EUR" in text
    for kind in ("pdf", "csv", "focus.csv", "focus.parquet"):
        assert f"/t/nord/statements/2026-05/{kind}" in text


def test_running_month_stands_in_the_list_as_it_is_now(world, project):
    list_prices()
    now = timezone.now()
    hold(project, label(project, "chat"), f"{now - dt.timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}", None)
    running = page(world).context["rows"][0]
    assert running["statement"].state == Statement.State.DRAFT
    assert running["statement"].total > 0


def test_statement_shows_every_line_in_one_place(world, statement):
    answer = page(world, "/2026-05")
    shown = [row["line"].position for section in answer.context["sections"] for row in section.rows]
    assert sorted(shown) == list(range(1, 15))
    charged = [section for section in answer.context["sections"] if section.charged]
    assert sum(section.amount for section in charged) == statement.total
    text = answer.content.decode()
    for words in (
        "Number 2026-05-000001",
        "cost centre 4711",
        "Corrections of earlier months",
        "used in April 2026",
        "paid by a commitment, of whose cost it is 1,440.00 EUR",
        "Shown beside, not charged",
        "of which idle",
        "2" * 64,
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (
            {"price": "p", "unit": "gpu_second", "quantity": "7200", "unit_price": "3.6000000000", "per": 3600,
             "factor": "1.25", "product": "9.000", "start": "2026-05-01T00:00:00+00:00",
             "end": "2026-05-01T02:00:00+00:00"},
            "7,200 GPU-seconds x 3.6 per 3,600 x 1.25 = 9",
        ),
        (
            {"commitment": "c", "unit": "gpu_second", "quantity": "3600", "rate": "2.4", "per": 3600,
             "product": "2.4", "start": None, "end": None},
            "3,600 GPU-seconds x 2.4 per 3,600 of the commitment = 2.4",
        ),
        ({"missing": "no gpu_hour price for gpu_type l4"}, "no gpu_hour price for gpu_type l4; nothing is charged"),
        ({"of": "100", "percent": "10.00", "missed": ["availability 99 % of 99.9 %"]},
         "10 % of 100: availability 99 % of 99.9 %"),
        ({"cost": "80", "weight": "1", "weights": "4"}, "1 of 4 by use, of a cost of 80"),
        ({"left": "50", "taken": "20.0800"}, "20.08 of 50 that were left"),
        ({"carried": "5", "taken": "5"}, "5 of 5 carried forward"),
        ({"corrections_beyond_charges": "-3.5"}, "corrections beyond charges -3.5"),
        ({"now": {"amount": "12"}, "charged_before": {"amount": "10"}, "steps": [{"missing": "x"}]},
         "12 now less 10 charged before"),
    ],
)  # fmt: skip
def test_how_an_amount_was_reached_in_words(world, project, how, words):
    draft = Draft(world.tenant, project)
    draft.put(Kind.GPU_TIME, "1", "1", "1", how=[how])
    draft.write()
    assert words in page(world, "/2026-05").content.decode()


def test_hundreds_of_lines_come_by_the_page(world, project):
    draft = Draft(world.tenant, project)
    for number in range(250):
        draft.put(Kind.GPU_TIME, "1", "1", "1", endpoint_name=f"endpoint-{number:03}")
    draft.write()
    text = page(world, "/2026-05").content.decode()
    assert "endpoint-099" in text
    assert "endpoint-100" not in text
    assert "100 of 250 lines are on this page; the sum is of all of them." in text
    assert "250.00 EUR" in text
    last = page(world, "/2026-05?page=3")
    assert [row["line"].position for row in last.context["sections"][0].rows] == list(range(201, 251))
    for nonsense in ("0", "99", "x"):
        assert page(world, f"/2026-05?page={nonsense}")


def test_many_lines_take_no_more_queries_than_one(world, project):
    counts = []
    browser = world.browser("billing")
    assert browser.get("/t/nord/statements").status_code == 200  # the session has been seen just now
    for month, lines in ((5, 1), (6, 250)):
        start = utc(f"2026-{month:02}-01")
        draft = Draft(
            world.tenant, project, month=start.date(), start=start, end=start + dt.timedelta(days=30)
        )
        for number in range(lines):
            draft.put(Kind.GPU_TIME, "1", "1", "1", endpoint_name=f"endpoint-{number:03}")
        draft.write(number=f"2026-{month:02}-000001")
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(f"/t/nord/statements/2026-{month:02}").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_empty_month_says_so(world):
    month = f"{timezone.now():%Y-%m}"
    assert "Nothing to charge in this month" in page(world, f"/{month}").content.decode()


def test_parked_account_is_told_of(world, statement):
    with scope.tenant(world.tenant.id):
        BillingAccount.objects.create(
            tenant=world.tenant, state=BillingAccount.State.PARKED, reason="x", parked_at=timezone.now()
        )
    assert "Billing is on hold" in page(world).content.decode()
    assert "Billing is on hold" in page(world, f"/{timezone.now():%Y-%m}").content.decode()
    assert "Billing is on hold" not in page(world, "/2026-05").content.decode()  # final: nothing is held up


def test_files_of_a_month(world, statement):
    def content(kind: str) -> bytes:
        return b"".join(page(world, f"/2026-05/{kind}").streaming_content)

    assert content("pdf").startswith(b"%PDF-")
    assert content("focus.parquet").startswith(b"PAR1")
    for kind, amount in (("csv", "amount"), ("focus.csv", "BilledCost")):
        rows = csv.DictReader(io.StringIO(content(kind).decode()))
        found = sum(Decimal(row[amount]) for row in rows if row.get("charged", "yes") == "yes")
        assert found == statement.total


@pytest.mark.parametrize(
    "path", ["/2001-01", "/never", "/2026-05/exe", "/2001-01/pdf", "/9999-99", "/2999-01"]
)
def test_what_is_not_there_is_404(world, statement, path):
    assert world.browser("owner").get(f"/t/nord/statements{path}").status_code == 404


@pytest.mark.parametrize("path", ["", "/2026-05", "/2026-05/pdf", "/2026-05/focus.csv"])
def test_who_may_look(world, statement, path):
    for who, status in (
        ("owner", 200),
        ("developer", 200),
        ("billing", 200),
        ("viewer", 403),
        ("stranger", 404),
    ):
        assert world.browser(who).get(f"/t/nord/statements{path}").status_code == status, who
    assert world.browser("nobody").get(f"/t/nord/statements{path}").status_code == 302
