"""The document as PDF, for people; the JSON beside it is what counts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    LongTable,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from billing.documents.fonts import PLAIN, Text
from billing.documents.pdf import BODY, HEAD, INK, LABEL, MARGIN, MUTED, RULE, SECTION, SMALL, TITLE, WIDTH

ANSWERS: Final = {"yes": "Yes", "no": "NO", "not-proven": "Not proven"}

_STYLE: Final = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
    ("LINEBELOW", (0, 1), (-1, -1), 0.4, RULE),
]


def evidence_pdf(document: Mapping[str, Any]) -> bytes:
    """Give the document as A4 pages. The same document gives the same bytes."""
    return _Print(document).render()


class _Print:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.text = Text()

    def render(self) -> bytes:
        out = io.BytesIO()
        title = self.text(f"Evidence of {self.document['endpoint']['name']}")
        template = BaseDocTemplate(out, pagesize=A4, invariant=1, lang="en", title=title, creator="Berth")
        frame = Frame(MARGIN, MARGIN + 6 * mm, WIDTH, A4[1] - 2 * MARGIN - 12 * mm, 0, 0, 0, 0)
        template.addPageTemplates(PageTemplate(frames=[frame], onPage=self._foot))
        template.build(list(self._story()))
        return out.getvalue()

    def _story(self) -> Iterable[Flowable]:
        document, endpoint = self.document, self.document["endpoint"]
        yield self._cell(f"Evidence of {endpoint['name']}", TITLE)
        yield Spacer(0, 3 * mm)
        facts = [
            ("Tenant", document["tenant"]["name"]),
            ("Endpoint", f"{endpoint['name']}, {endpoint['id']}"),
            ("Model and class", f"{endpoint['model']}, {endpoint['slo_class']}"),
            ("Period", f"{_at(document['period']['from'])} to {_at(document['period']['until'])}, the end excluded"),
            ("Made", f"{_at(document['generated_at'])} by {document['generated_by']}, {document['software']}"),
            ("Signed with", f"Ed25519 key {document['signed_with']}"),
        ]  # fmt: skip
        yield Table(
            [[self._cell(label, LABEL), self._cell(value, BODY)] for label, value in facts],
            colWidths=[30 * mm, WIDTH - 30 * mm],
        )
        yield from self._checks()
        yield from self._tables()
        yield Spacer(0, 6 * mm)
        yield self._cell(
            "This is a print of evidence.json, which lies beside it and says more. Both are signed; how to check them "
            "without Berth is in docs/audit.md. All times are UTC.",
            SMALL,
        )
        if self.text.lossy:
            yield self._cell("Some names have letters that the font of this print lacks.", SMALL)

    def _checks(self) -> Iterable[Flowable]:
        yield from self._table(
            "What was checked", ("Check", "Answer", "Found"),
            [(each["claim"], ANSWERS[each["answer"]], _findings(each)) for each in self.document["checks"]],
            (0.5, 0.12, 0.38),
        )  # fmt: skip

    def _tables(self) -> Iterable[Flowable]:
        document = self.document
        yield from self._table(
            "Residency demanded", ("From", "Until", "Residency", "Certifications"),
            [(_at(each["from"]), _at(each["until"]), each["residency"], ", ".join(each["certifications"]) or "none")
             for each in document["residency_demanded"]],
        )  # fmt: skip
        yield from self._table(
            "Policy in force", ("Since", "Version", "Set by", "Allowed places", "Certifications"),
            [(_at(each["effective_from"]), each["version"], each["set_as"],
              ", ".join(each["allowed_zones"]) or "all", ", ".join(each["certifications"]) or "none")
             for each in document["policy_in_force"]],
        )  # fmt: skip
        yield from self._table(
            "Placements", ("Placed", "Revision", "Cluster", "Place as it was then"),
            [(_at(each["placed_at"]), each["revision"], f"{each['cluster']}/{each['pool']}",
              _place(each["place_at_placement"])) for each in document["placements"]],
            (0.2, 0.1, 0.25, 0.45),
        )  # fmt: skip
        yield from self._table(
            "Moves", ("At", "From", "To", "Asked by", "Carried out by"),
            [(_at(each["at"]), _where(each["from"]), _where(each["to"]), each["asked_by"] or "",
              each["carried_out_by"] or "") for each in document["moves"]],
        )  # fmt: skip
        yield from self._table(
            "GPUs held", ("From", "Until", "Where", "GPUs", "Replica"),
            [(_at(each["from"]), _at(each["until"]), f"{each['cluster']} in {each['region']}",
              f"{each['gpus']} x {each['gpu_type']}", each["replica"]) for each in document["gpus_held"]],
        )  # fmt: skip
        yield from self._table(
            "Exceptions", ("From", "Until", "What", "Approved by", "Reason"),
            [(_at(each["from"]), _at(each["until"]), f"{each['restriction']} {each['value']}", each["approved_by"],
              each["reason"]) for each in document["exceptions"]],
        )  # fmt: skip
        yield from self._table(
            "Approvals", ("Asked", "What", "Asked by", "State", "Decided by"),
            [(_at(each["asked_at"]), each["title"], each["asked_by"], each["state"], each["decided_by"])
             for each in document["approvals"]],
        )  # fmt: skip
        yield from self._table(
            "Requests by region of the gateway", ("Day", "Region", "Outcome", "Requests", "Tokens in / out"),
            [(each["day"], each["gateway_region"], each["outcome"], each["requests"],
              f"{each['input_tokens']} / {each['output_tokens']}") for each in document["requests_by_region"]],
        )  # fmt: skip
        yield from self._table(
            "Service levels", ("Day", "Class", "Requests", "Failed", "Hours: all / first token / between tokens"),
            [(each["day"], each["slo_class"], each["requests"], each["failed"],
              f"{each['hours']} / {each['hours_ttft_met']} / {each['hours_itl_met']}")
             for each in document["slo_attainment"]],
        )  # fmt: skip
        entries = document["audit"]["entries"]
        yield from self._table(
            f"Audit: {len(entries)} entries", ("At", "Number", "Action", "Who"),
            [(_at(each["at"]), each["number"], each["action"], each["actor"]) for each in entries],
            (0.25, 0.1, 0.25, 0.4),
        )  # fmt: skip
        if head := document["audit"]["chain_head"]:
            yield self._cell(f"End of the chain: number {head['number']}, {head['hash']}", SMALL)

    def _table(
        self, title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], widths: Sequence[float] = ()
    ) -> Iterable[Flowable]:
        yield self._cell(title, SECTION)
        if not rows:
            yield self._cell("None.", BODY)
            return
        shares = widths or [1 / len(heads)] * len(heads)
        cells = [[self._cell(each, HEAD) for each in heads]]
        cells += [[self._cell(str(each), BODY) for each in row] for row in rows]
        yield LongTable(cells, colWidths=[share * WIDTH for share in shares], repeatRows=1, style=_STYLE)

    def _cell(self, text: str, style: ParagraphStyle) -> Paragraph:
        return Paragraph(escape(self.text(text)), style)

    def _foot(self, canvas: Canvas, template: BaseDocTemplate) -> None:
        canvas.saveState()
        canvas.setFont(PLAIN, 7)
        canvas.setFillColor(MUTED)
        endpoint = self.document["endpoint"]
        canvas.drawString(MARGIN, MARGIN, self.text(f"Evidence of {endpoint['name']}, {endpoint['id']}"))
        canvas.drawRightString(MARGIN + WIDTH, MARGIN, f"Page {template.page}")
        canvas.restoreState()


def _at(text: str | None) -> str:
    return text[:16].replace("T", " ") if text else ""


def _place(place: Mapping[str, Any] | None) -> str:
    if place is None:
        return "not kept"
    held = ", ".join(place["certifications"]) or "no certifications"
    return f"{place['region']}, {place['country']}, zones {', '.join(place['zones']) or 'none'}, {held}"


def _where(place: Mapping[str, Any] | None) -> str:
    return f"{place['cluster']} in {place['region']}" if place else "nowhere"


def _findings(check: Mapping[str, Any]) -> str:
    told = [
        f"{each['what']}, {_at(each['from'])} to {_at(each['until'])}: {each['why']}"
        for each in check["findings"]
    ]
    told += [f"{each['what']}: {each['why']}" for each in check["unknown"]]
    return "; ".join(told)
