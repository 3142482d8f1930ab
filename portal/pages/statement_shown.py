"""A statement as its page shows it: sections of lines, a page of them at a time, and how each was reached, in words."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.utils.dateparse import parse_datetime

from billing.documents.contents import Contents, Section
from billing.models import EndpointLabel, StatementLine
from portal.templatetags.berth import decimals

#: A page of lines is short enough to read and to render.
PER_PAGE: Final = 100
UNITS: Final = {"gpu_second": "GPU-seconds", "token": "tokens"}


@dataclasses.dataclass(frozen=True)
class ShownSection:
    """A part of a statement, or as much of it as is on this page. ``amount`` is that of the whole part."""

    title: str
    cost_centre: str
    amount: Decimal
    idle: Decimal
    charged: bool
    rows: tuple[dict[str, Any], ...]
    of: int


def page_of(
    contents: Contents, number: Any, link: Callable[[uuid.UUID], str]
) -> tuple[Page, list[ShownSection]]:
    """Give one page of the lines, those that are charged first, in their sections.

    ``link`` gives the address of an endpoint's page; the tenant's own endpoints in Berth have one.
    """
    page = Paginator((*contents.lines, *contents.beside), PER_PAGE).get_page(number)
    ids = {line.endpoint_id for line in page.object_list if line.endpoint_id}
    own = EndpointLabel.objects.filter(endpoint_id__in=ids, external=False)
    urls = {id: link(id) for id in own.values_list("endpoint_id", flat=True)}
    here = {
        line.position: {"line": line, "steps": steps_of(line), "url": urls.get(line.endpoint_id, "")}
        for line in page.object_list
    }
    found = [_section(section, here, section.amount, charged=True) for section in contents.sections]
    if contents.beside:
        beside = Section("Shown beside, not charged", "", contents.beside)
        amount = sum((line.amount for line in beside.lines), Decimal(0))
        found.append(_section(beside, here, amount, charged=False))
    return page, [section for section in found if section.rows]


def _section(
    section: Section, here: Mapping[int, dict[str, Any]], amount: Decimal, *, charged: bool
) -> ShownSection:
    rows = [here[line.position] for line in section.lines if line.position in here]
    return ShownSection(
        title=section.title,
        cost_centre=section.cost_centre,
        amount=amount,
        idle=section.idle,
        charged=charged,
        rows=tuple(rows),
        of=len(section.lines),
    )


def steps_of(line: StatementLine) -> list[dict[str, Any]]:
    """Say step by step how a line's amount was reached; each has ``text`` and, of a time, ``start`` and ``end``."""
    return [step for how in line.how for step in _steps(how)]


def _steps(how: Mapping[str, Any]) -> list[dict[str, Any]]:
    match how:
        case {"missing": missing}:
            return [_told(f"{missing}; nothing is charged")]
        case {"now": now, "charged_before": before, "steps": steps}:
            told = f"{_plain(now['amount'])} now less {_plain(before['amount'])} charged before"
            return [_told(told), *(step for each in steps for step in _steps(each))]
        case {"commitment": _, "rate": rate}:
            return [_product(how, rate, "of the commitment")]
        case {"unit_price": price, "factor": factor}:
            return [_product(how, price, "" if factor == "1" else f"x {factor}")]
        case {"of": base, "percent": percent, "missed": missed}:
            return [_told(f"{_plain(percent)} % of {_plain(base)}: {'; '.join(missed)}")]
        case {"cost": cost, "weight": weight, "weights": weights}:
            return [_told(f"{_plain(weight)} of {_plain(weights)} by use, of a cost of {_plain(cost)}")]
        case {"left": left, "taken": taken}:
            return [_told(f"{_plain(taken)} of {_plain(left)} that were left")]
        case {"carried": carried, "taken": taken}:
            return [_told(f"{_plain(taken)} of {_plain(carried)} carried forward")]
        case _:
            return [
                _told(", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in how.items()))
            ]


def _product(how: Mapping[str, Any], price: str, more: str) -> dict[str, Any]:
    unit = UNITS.get(how["unit"], f"{how['unit']}s")
    quantity = f"{decimals(how['quantity'], 6)} {unit}"
    per = "" if how["per"] == 1 else f" per {how['per']:,}"
    text = f"{quantity} x {_plain(price)}{per} {more}".rstrip()
    told = _told(f"{text} = {_plain(how['product'])}")
    return told | {name: parse_datetime(how[name]) if how.get(name) else None for name in ("start", "end")}


def _told(text: str) -> dict[str, Any]:
    return {"text": text, "start": None, "end": None}


def _plain(number: Any) -> str:
    """Write a number without needless zeros; what is no number as it is."""
    told = decimals(number, 15)
    return str(number) if told == decimals(None) else told
