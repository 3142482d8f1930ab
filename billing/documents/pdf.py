"""A statement as PDF: what a finance department files and signs.

The same statement gives the same bytes: no clock, no random ids, fonts of our own.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import io
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    KeepTogether,
    LongTable,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from billing.documents.contents import CREDIT_KINDS, Contents, Section, contents_of
from billing.documents.fonts import BOLD, PLAIN, Text
from billing.documents.parties import Parties, parties_of
from billing.models import Statement, StatementLine
from billing.rating.rounding import places_of

INK: Final = colors.HexColor("#13202c")
MUTED: Final = colors.HexColor("#516170")
ACCENT: Final = colors.HexColor("#0b6472")
RULE: Final = colors.HexColor("#dde4e9")
BAND: Final = colors.HexColor("#eff3f5")

MARGIN: Final = 18 * mm
WIDTH: Final = A4[0] - 2 * MARGIN
#: What a line is, how much, of what, at which price, and what it comes to.
COLUMNS: Final = [WIDTH - 101 * mm, 27 * mm, 23 * mm, 25 * mm, 26 * mm]


def statement_pdf(statement: Statement) -> bytes:
    """Give ``statement`` as a PDF of A4 pages. The scope of its tenant must be open."""
    return _Document(statement, list(statement.lines.all()), parties_of(statement)).render()


def _style(name: str, **facts: Any) -> ParagraphStyle:
    defaults = {"fontName": PLAIN, "fontSize": 8, "leading": 10.5, "textColor": INK, "splitLongWords": 1}
    return ParagraphStyle(name, **(defaults | facts))


BODY: Final = _style("body")
SMALL: Final = _style("small", fontSize=7, leading=9, textColor=MUTED)
NUMBER: Final = _style("number", alignment=TA_RIGHT)
STRONG: Final = _style("strong", fontName=BOLD)
STRONG_NUMBER: Final = _style("strong number", fontName=BOLD, alignment=TA_RIGHT)
LABEL: Final = _style("label", fontSize=7, textColor=MUTED)
HEAD: Final = _style("head", fontName=BOLD, fontSize=7, leading=9, textColor=MUTED)
HEAD_NUMBER: Final = _style("head number", parent=HEAD, fontName=BOLD, fontSize=7, leading=9, textColor=MUTED,
                            alignment=TA_RIGHT)  # fmt: skip
TITLE: Final = _style("title", fontName=BOLD, fontSize=20, leading=24)
SECTION: Final = _style("section", fontName=BOLD, fontSize=11, leading=14, textColor=ACCENT, spaceBefore=12,
                        spaceAfter=4)  # fmt: skip


@dataclasses.dataclass
class _Document:
    statement: Statement
    lines: Sequence[StatementLine]
    parties: Parties

    def __post_init__(self) -> None:
        self.text = Text()
        self.contents: Contents = contents_of(self.lines)
        self.places = places_of(self.statement.currency)
        self.zone = ZoneInfo(self.parties.time_zone)
        self.final = self.statement.state == Statement.State.FINAL
        self.name = self.statement.number or f"draft of {self.statement.month:%Y-%m}"

    def render(self) -> bytes:
        out = io.BytesIO()
        document = BaseDocTemplate(
            out,
            pagesize=A4,
            invariant=1,
            lang="en",
            title=self.text(f"Statement {self.name}"),
            author=self.text(self.parties.issuer),
            subject=self.text(f"{self.parties.tenant}, {self.statement.month:%Y-%m}"),
            creator="Berth",
        )
        frame = Frame(MARGIN, MARGIN + 6 * mm, WIDTH, A4[1] - 2 * MARGIN - 12 * mm, 0, 0, 0, 0)
        document.addPageTemplates(PageTemplate(frames=[frame], onPage=self._mark))
        document.build(self._story(), canvasmaker=_numbered(self._foot))
        return out.getvalue()

    def _story(self) -> list[Flowable]:
        return [*self._opening(), *self._summary(), *self._sections(), *self._beside(), *self._closing()]

    def _opening(self) -> list[Flowable]:
        statement = self.statement
        state = (
            f"Final since {self._at(statement.finalized_at)}"
            if self.final
            else f"Draft, counted until {self._at(statement.computed_at)}. Not to be paid: late usage may change it."
        )
        facts = [
            ("Issued by", self.parties.issuer),
            ("For", self.parties.tenant),
            ("Number", statement.number or "none yet"),
            ("Period", f"{self._at(statement.period_start)} to {self._at(statement.period_end)} "
                       f"({self.parties.time_zone}), the end not included"),
            ("Currency", statement.currency),
            ("State", state),
        ]  # fmt: skip
        rows = [[self._cell(label, LABEL), self._cell(value, BODY)] for label, value in facts]
        return [
            self._cell(f"Statement of {statement.month:%B %Y}", TITLE),
            Spacer(0, 4 * mm),
            Table(rows, colWidths=[28 * mm, WIDTH - 28 * mm], style=_PLAIN),
            Spacer(0, 4 * mm),
        ]

    def _summary(self) -> list[Flowable]:
        rows = [
            [self._cell(label, BODY), self._amount(amount, NUMBER)] for label, amount in self.contents.summary
        ]
        total = f"Total in {self.statement.currency}"
        rows.append([self._cell(total, STRONG), self._amount(self.statement.total, STRONG_NUMBER)])
        return [Table(rows, colWidths=[WIDTH - 40 * mm, 40 * mm], style=_summary_style(len(rows)))]

    def _sections(self) -> Iterable[Flowable]:
        if not self.contents.lines:
            yield self._cell("Nothing was charged in this month.", _style("none", spaceBefore=12))
        for section in self.contents.sections:
            yield from self._table(section, f"Subtotal, {section.title}", section.amount)

    def _beside(self) -> Iterable[Flowable]:
        if not self.contents.beside:
            return
        section = Section("Shown beside, not charged", "", self.contents.beside)
        about = (
            "The other way to look at the same work: tokens of endpoints that are charged by GPU time, and GPU time "
            "of endpoints that are charged by tokens. None of it is part of the total."
        )
        yield from self._table(
            section,
            "Sum of what is not charged",
            sum((line.amount for line in section.lines), Decimal(0)),
            about,
        )

    def _table(self, section: Section, closing: str, amount: Decimal, about: str = "") -> Iterable[Flowable]:
        centre = f"  ·  cost centre {section.cost_centre}" if section.cost_centre else ""
        yield CondPageBreak(35 * mm)
        yield self._cell(f"{section.title}{centre}", SECTION)
        if about:
            yield self._cell(about, SMALL)
            yield Spacer(0, 2 * mm)
        head = [self._cell("Line", HEAD)]
        head += [self._cell(each, HEAD_NUMBER) for each in ("Quantity", "Unit", "Unit price", "Amount")]
        rows = [head, *(self._line(line) for line in section.lines)]
        if section.idle and section.idle != amount:
            rows.append([self._cell("of which idle", SMALL), "", "", "", self._amount(section.idle, NUMBER)])
        rows.append([self._cell(closing, STRONG), "", "", "", self._amount(amount, STRONG_NUMBER)])
        yield LongTable(rows, colWidths=COLUMNS, repeatRows=1, style=_lines_style(len(rows)))

    def _line(self, line: StatementLine) -> list[Any]:
        what = [self._cell(line.endpoint_name, STRONG)] if line.endpoint_name else []
        what.append(self._cell(line.description, BODY))
        if line.correction:
            what.append(self._cell(f"used in {line.service_month:%B %Y}", SMALL))
        if line.commitment_id and line.kind != StatementLine.Kind.COMMITMENT:
            effective = self._money(line.effective_amount)
            what.append(self._cell(f"paid by a commitment, of whose cost it is {effective}", SMALL))
        if not line.charged and line.project_name:
            what.append(self._cell(line.project_name, SMALL))
        if line.kind in CREDIT_KINDS:
            return [what, "", "", "", self._amount(line.amount, NUMBER)]
        return [
            what,
            self._cell(_number(line.quantity, 6), NUMBER),
            self._cell(line.unit, NUMBER),
            self._cell(_number(line.unit_price, 10), NUMBER),
            self._amount(line.amount, NUMBER),
        ]

    def _closing(self) -> Iterable[Flowable]:
        if self.final:
            yield KeepTogether([*self._proof(), Spacer(0, 14 * mm), _signature_lines(self._cell)])
        if self.text.lossy:
            yield Spacer(0, 2 * mm)
            yield self._cell(
                "Some names have letters that the font of this document lacks; the CSV has them as they are.",
                SMALL,
            )

    def _proof(self) -> list[Flowable]:
        statement = self.statement
        return [
            self._cell("How to check", SECTION),
            self._cell(
                "Every line says in the portal and through the API how its amount was reached. Berth keeps what the "
                "statement was computed from and can make it again: manage.py statement_replay "
                f"{statement.number} gives the same document, whose SHA-256 is the one below.",
                BODY,
            ),
            Spacer(0, 2 * mm),
            self._cell(f"Document SHA-256  {statement.document_sha256}", BODY),
            self._cell(f"Inputs SHA-256  {statement.inputs_sha256}", BODY),
        ]

    def _cell(self, text: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph(escape(self.text(text)), style)

    def _amount(self, amount: Decimal, style: ParagraphStyle) -> Paragraph:
        return self._cell(self._money(amount), style)

    def _money(self, amount: Decimal) -> str:
        return _number(amount, 4, self.places)

    def _at(self, moment: dt.datetime | None) -> str:
        return f"{moment.astimezone(self.zone):%-d %B %Y %H:%M}" if moment else ""

    def _mark(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        if self.final:
            return
        canvas.saveState()
        canvas.setFont(BOLD, 110)
        canvas.setFillColor(colors.HexColor("#f0f2f4"))
        canvas.translate(A4[0] / 2, A4[1] / 2)
        canvas.rotate(52)
        canvas.drawCentredString(0, -40, "DRAFT")
        canvas.restoreState()

    def _foot(self, canvas: Canvas, page: int, pages: int) -> None:
        canvas.saveState()
        canvas.setFont(PLAIN, 7)
        canvas.setFillColor(MUTED)
        state = "" if self.final else "DRAFT  ·  "
        canvas.drawString(
            MARGIN, MARGIN, self.text(f"{state}{self.parties.issuer}  ·  Statement {self.name}")
        )
        canvas.drawRightString(A4[0] - MARGIN, MARGIN, f"Page {page} of {pages}")
        canvas.restoreState()


def _signature_lines(cell: Callable[[str, ParagraphStyle], Paragraph]) -> Flowable:
    places = [cell(each, SMALL) for each in ("Checked by", "Approved by", "Date")]
    row: list[Any] = [places[0], "", places[1], "", places[2]]
    gap = 8 * mm
    wide = (WIDTH - 2 * gap) / 3
    above = [("LINEABOVE", (column, 0), (column, 0), 0.5, MUTED) for column in (0, 2, 4)]
    return Table([row], colWidths=[wide, gap, wide, gap, wide], style=[*_PADDING, *above])


def _number(value: Decimal, most: int, least: int = 0) -> str:
    """Write a number with ``least`` decimals, and as many up to ``most`` as it needs."""
    whole, _, part = f"{round(value, most):,f}".partition(".")
    part = part.rstrip("0").ljust(least, "0")
    return f"{whole}.{part}" if part else whole


_PADDING: Final = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("TOPPADDING", (0, 0), (-1, -1), 2.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]
_PLAIN: Final = [*_PADDING, ("TOPPADDING", (0, 0), (-1, -1), 1), ("BOTTOMPADDING", (0, 0), (-1, -1), 1)]


def _summary_style(rows: int) -> list[tuple[Any, ...]]:
    return [
        *_PADDING,
        ("LEFTPADDING", (0, 0), (0, -1), 4),
        ("RIGHTPADDING", (-1, 0), (-1, -1), 4),
        ("BACKGROUND", (0, rows - 1), (-1, rows - 1), BAND),
        ("LINEABOVE", (0, 0), (-1, 0), 0.5, RULE),
        ("LINEABOVE", (0, rows - 1), (-1, rows - 1), 0.8, INK),
    ]


def _lines_style(rows: int) -> list[tuple[Any, ...]]:
    return [
        *_PADDING,
        ("RIGHTPADDING", (0, 0), (0, -1), 6),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
        ("LINEBELOW", (0, 1), (-1, rows - 2), 0.4, RULE),
        ("LINEABOVE", (0, rows - 1), (-1, rows - 1), 0.8, INK),
    ]


def _numbered(foot: Callable[[Canvas, int, int], None]) -> Callable[..., Canvas]:
    """Give a canvas that writes the foot of each page once it knows how many there are."""
    return functools.partial(_Numbered, foot=foot)


class _Numbered(Canvas):
    def __init__(self, *args: Any, foot: Callable[[Canvas, int, int], None], **options: Any) -> None:
        super().__init__(*args, **options)
        self._told: list[dict[str, Any]] = []
        self._write_foot = foot

    def showPage(self) -> None:  # noqa: N802
        self._told.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for page, state in enumerate(self._told, start=1):
            self.__dict__.update(state)
            self._write_foot(self, page, len(self._told))
            super().showPage()
        super().save()
