"""Statements as PDF: what stands in them, page by page."""

from __future__ import annotations

import io
import re

import pypdf
import pytest

from billing.documents import fonts
from billing.documents.pdf import statement_pdf
from billing.models import Statement
from tenants import scope
from tests.billing.statements import Draft, Kind, every_kind
from tests.factories import default_project, make_tenant


@pytest.fixture
def tenant(db):
    return make_tenant("acme", name="Acme – Zürich", time_zone="Europe/Berlin")


@pytest.fixture
def project(tenant):
    return default_project(tenant)


def drawn(statement: Statement) -> bytes:
    with scope.tenant(statement.tenant_id):
        return statement_pdf(statement)


def pages(statement: Statement) -> list[str]:
    """Give the words of each page, blanks made one."""
    reader = pypdf.PdfReader(io.BytesIO(drawn(statement)))
    return [re.sub(r"\s+", " ", page.extract_text()) for page in reader.pages]


def test_final_statement_says_who_when_and_how_much(tenant, project, settings):
    settings.FOCUS_INVOICE_ISSUER_NAME = "Acme Billing & Söhne"
    text = " ".join(pages(every_kind(tenant, project)))
    for words in (
        "Statement of May 2026",
        "Issued by Acme Billing & Söhne",
        "For Acme – Zürich",
        "Number 2026-05-000001",
        "1 May 2026 00:00 to 1 June 2026 00:00 (Europe/Berlin)",
        "Final since 4 June 2026 00:00",
        "Total in EUR 2,182.30",
        f"Document SHA-256 {'2' * 64}",
        "statement_replay 2026-05-000001",
    ):
        assert words in text, words
    assert "DRAFT" not in text


def test_what_the_total_is_made_of(tenant, project):
    text = " ".join(pages(every_kind(tenant, project)))
    told = {
        "GPU time": "361.20",
        "Idle GPU time": "45.00",
        "Tokens": "38.00",
        "Commitments": "1,785.60",
        "Corrections of earlier months": "13.20",
        "Credits for missed targets": "-40.62",
        "Other credits": "-20.08",
    }
    for label, amount in told.items():
        assert f"{label} {amount}" in text, label
    assert "Default · cost centre 4711" in text
    assert "of which idle 45.00 Subtotal, Default 444.20" in text
    assert "used in April 2026" in text
    assert "paid by a commitment, of whose cost it is 1,440.00" in text


def test_what_is_not_charged_stands_apart(tenant, project):
    beside = " ".join(pages(every_kind(tenant, project))).partition("Shown beside, not charged")[2]
    assert "375.19" in beside
    assert "11.70" in beside
    assert "Sum of what is not charged 386.89" in beside


@pytest.mark.parametrize("state", [Statement.State.DRAFT, Statement.State.GRACE])
def test_draft_says_so_on_every_page(tenant, project, state):
    draft = Draft(tenant, project)
    for number in range(200):
        draft.put(Kind.GPU_TIME, "1", "1", "1", endpoint_name=f"endpoint-{number}")
    found = pages(draft.write(state=state))
    assert len(found) > 3
    assert all("DRAFT" in page for page in found)
    assert "Number none yet" in found[0]
    assert not any("SHA-256" in page for page in found)


def test_hundreds_of_lines_go_over_pages_with_their_heads(tenant, project):
    draft = Draft(tenant, project)
    for number in range(500):
        draft.put(
            Kind.GPU_TIME, f"{number}.5", "2", f"{number * 2 + 1}", description="GPU-hours, " + "long " * 30,
            endpoint_name=f"an-endpoint-whose-name-has-as-many-letters-as-may-be-{number:03}",
        )  # fmt: skip
    found = pages(draft.write())
    assert all("Quantity Unit Unit price Amount" in page for page in found[:-1])
    assert [re.search(r"Page (\d+) of (\d+)", page).groups() for page in found] == [
        (str(page), str(len(found))) for page in range(1, len(found) + 1)
    ]
    text = " ".join(found)
    assert text.count("1,001.00") == 0
    assert text.count("999.00") == 1
    assert "Total in EUR 250,000.00" in text


def test_same_statement_gives_the_same_bytes(tenant, project):
    statement = every_kind(tenant, project)
    assert drawn(statement) == drawn(statement)


def test_fonts_are_inside(tenant, project):
    reader = pypdf.PdfReader(io.BytesIO(drawn(every_kind(tenant, project))))
    used = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].values()]
    embedded = [font for font in used if "/FontFile2" in font.get("/FontDescriptor", {})]
    assert len(embedded) == 2
    assert {str(font["/BaseFont"]) for font in used if font not in embedded} <= {
        "/Helvetica"
    }  # reportlab's own start


def test_letters_that_the_font_lacks_are_told(tenant, project):
    draft = Draft(tenant, project)
    draft.put(Kind.GPU_TIME, "1", "1", "1", endpoint_name="řeč-漢字-<b>")
    text = " ".join(pages(draft.write()))
    assert "reč-??-<b>" in text
    assert "letters that the font of this document lacks" in text


def test_text_keeps_what_the_font_has(db):
    text = fonts.Text()
    assert text("Zürich – 5 €") == "Zürich – 5 €"
    assert not text.lossy


def test_empty_month(tenant, project):
    text = " ".join(pages(Draft(tenant, project).write()))
    assert "Nothing was charged in this month." in text
    assert "Total in EUR 0.00" in text


def test_currency_without_minor_unit(db):
    tenant = make_tenant(currency="JPY")
    draft = Draft(tenant, default_project(tenant))
    draft.put(Kind.GPU_TIME, "10", "500", "5000")
    assert "Total in JPY 5,000 " in " ".join(pages(draft.write()))
