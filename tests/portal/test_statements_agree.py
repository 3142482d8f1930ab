"""One statement, everywhere the same: page, REST, every file, the canonical document, the ledger."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from decimal import Decimal

import pyarrow.parquet as pq
import pypdf
import pytest
from rest_framework.test import APIClient

from billing.commitments import commitment_create
from billing.credits import credit_grant
from billing.ledger import balances
from billing.models import Attainment, Statement
from billing.sharing import shared_open
from billing.statements import statement_document, statement_run
from tenants import scope
from tests.billing.focus.checker import problems
from tests.billing.prices import hold, label, list_prices, utc
from tests.billing.usage import add_usage
from tests.factories import default_project, make_tenant, management_key

D = Decimal


@pytest.fixture
def statement(world) -> Statement:
    """Nordwind's statement of June: every kind of line, closed; late usage of May is a correction on it."""
    list_prices()
    project, house = default_project(world.tenant), make_tenant("house")
    chat = label(project, "chat")
    sold = label(default_project(house), "sold")
    shared_open(
        owner_id=house.id, endpoint_id=sold, name="sold", model="guide", slo_class="standard",
        started_at=utc("2026-05-01"),
    )  # fmt: skip
    commitment_create(
        tenant=world.tenant, name="reserved", gpu_type="h100_sxm", gpus=1, rate=D("2.4"),
        starts_at=utc("2026-05-01"), ends_at=utc("2027-05-01"), now=utc("2026-05-01"),
    )  # fmt: skip
    hold(project, chat, "2026-05-10T10:00", "2026-05-10T12:00")
    statement_run(month=dt.date(2026, 5, 1), now=utc("2026-06-05"), close=True)
    for day in ("2026-05-10", "2026-06-10"):
        add_usage(
            project, at=utc(f"{day}T10:30"), endpoint_id=sold, output_tokens=3_333_333, input_tokens=7_777_777
        )
        add_usage(project, at=utc(f"{day}T10:30"), endpoint_id=chat, output_tokens=1_000_000)
    hold(project, chat, "2026-06-10T10:00", "2026-06-10T13:13:13", gpus=2)
    hold(default_project(house), sold, "2026-06-10T10:00", "2026-06-10T11:00")
    with scope.tenant(world.tenant.id):
        Attainment.objects.create(
            endpoint_id=chat, project=project, day=dt.date(2026, 6, 10), slo_class="standard",
            availability=D("0.999"), credit_percent=D(10), requests=1000, failed=10,
        )  # fmt: skip
    credit_grant(tenant=world.tenant, amount=D("12.34"), reason="sorry", now=utc("2026-06-02"))
    statement_run(month=dt.date(2026, 6, 1), now=utc("2026-07-05"), close=True)
    with scope.tenant(world.tenant.id):
        return Statement.objects.get(month=dt.date(2026, 6, 1))


@pytest.mark.django_db
def test_page_rest_files_document_and_ledger_agree(world, statement):
    total = statement.total
    assert total > 0
    assert statement.state == Statement.State.FINAL
    with scope.tenant(world.tenant.id):
        lines = list(statement.lines.all())
        document = json.loads(statement_document(statement))
        posted = balances(currency="EUR")["receivable"]
        before = Statement.objects.get(month=dt.date(2026, 5, 1)).total
    kinds = {line.kind for line in lines}
    assert kinds >= {
        "gpu_time",
        "idle_gpu_time",
        "tokens",
        "shared_gpu_time",
        "commitment",
        "slo_credit",
        "credit",
    }
    assert any(line.correction for line in lines)

    browser = world.browser("billing")
    page = browser.get("/t/nord/statements/2026-06")
    on_page = [row["line"] for section in page.context["sections"] for row in section.rows]
    listed = next(
        row for row in browser.get("/t/nord/statements").context["rows"] if row["statement"] == statement
    )

    caller = APIClient()
    caller.credentials(HTTP_AUTHORIZATION=f"Bearer {management_key(world.tenant)}")
    base = f"/api/v1/statements/{statement.id}"
    rest = caller.get(base).json()
    by_rest = caller.get(f"{base}/lines", {"page_size": 200}).json()["results"]

    def content(kind: str) -> bytes:
        from_rest, from_page = caller.get(f"{base}/{kind}"), browser.get(f"/t/nord/statements/2026-06/{kind}")
        found = b"".join(from_rest.streaming_content)
        assert found == b"".join(from_page.streaming_content), kind
        return found

    sheet = list(csv.DictReader(io.StringIO(content("csv").decode())))
    focus = list(csv.DictReader(io.StringIO(content("focus.csv").decode())))
    table = pq.read_table(io.BytesIO(content("focus.parquet")))
    pdf = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content("pdf"))).pages)
    words = re.sub(r"\s+", " ", pdf)

    totals = {
        "page": page.context["statement"].total,
        "sections of the page": sum(each.amount for each in page.context["sections"] if each.charged),
        "summary of the page": sum(amount for _, amount in page.context["contents"].summary),
        "list": listed["statement"].total,
        "lines": sum(line.amount for line in lines if line.charged),
        "lines of the page": sum(line.amount for line in on_page if line.charged),
        "REST": D(rest["total"]),
        "summary of REST": sum(D(part["amount"]) for part in rest["summary"]),
        "lines of REST": sum(D(line["amount"]) for line in by_rest if line["charged"]),
        "CSV": sum(D(row["amount"]) for row in sheet if row["charged"] == "yes"),
        "FOCUS CSV": sum(D(row["BilledCost"]) for row in focus),
        "FOCUS Parquet": sum(table["BilledCost"].to_pylist()),
        "PDF": D(re.search(r"Total in EUR ([\d,]+\.\d\d)", words).group(1).replace(",", "")),
        "document": D(document["statement"]["total"]),
        "lines of the document": sum(D(line["amount"]) for line in document["lines"] if line["charged"]),
        "ledger": posted - before,
    }  # fmt: skip
    assert totals == dict.fromkeys(totals, total)
    assert f"{total:,.2f} EUR" in page.content.decode()
    assert len(on_page) == len(by_rest) == len(sheet) == len(document["lines"]) == len(lines)
    assert rest["number"] == statement.number == focus[0]["InvoiceId"] == sheet[0]["statement"]
    assert statement.number in words
    assert statement.document_sha256 in words
    assert problems(focus) == []
