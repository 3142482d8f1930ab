"""A statement's lines as they are read: by project and cost centre, corrections and credits apart, the rest beside.

The page, the PDF and REST show the same because all of them start here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Final

from billing.models import StatementLine

Kind = StatementLine.Kind

CREDIT_KINDS: Final = (Kind.SLO_CREDIT, Kind.CREDIT)
#: What a statement's total is made of, in the order in which it is told.
SUMMARY: Final = {
    Kind.GPU_TIME: "GPU time",
    Kind.IDLE_GPU_TIME: "Idle GPU time",
    Kind.TOKENS: "Tokens",
    Kind.COMMITMENT: "Commitments",
    "correction": "Corrections of earlier months",
    Kind.SLO_CREDIT: "Credits for missed targets",
    Kind.CREDIT: "Other credits",
}


@dataclasses.dataclass(frozen=True)
class Section:
    """Lines that are read together. ``amount`` is the sum of those that are charged, ``idle`` of what idled of it."""

    title: str
    cost_centre: str
    lines: tuple[StatementLine, ...]

    @property
    def amount(self) -> Decimal:
        return charged(self.lines)

    @property
    def idle(self) -> Decimal:
        return charged(line for line in self.lines if line.kind == Kind.IDLE_GPU_TIME)


@dataclasses.dataclass(frozen=True)
class Contents:
    """All lines of a statement, each in one place."""

    projects: tuple[Section, ...]
    corrections: tuple[StatementLine, ...]
    credits: tuple[StatementLine, ...]
    beside: tuple[StatementLine, ...]

    @property
    def sections(self) -> tuple[Section, ...]:
        """Give the charged parts in order; their amounts add up to the total."""
        rest = (
            Section("Corrections of earlier months", "", self.corrections),
            Section("Credits", "", self.credits),
        )
        return (*self.projects, *(section for section in rest if section.lines))

    @property
    def lines(self) -> tuple[StatementLine, ...]:
        """Give the charged lines in the order of the sections."""
        return tuple(line for section in self.sections for line in section.lines)

    @property
    def summary(self) -> tuple[tuple[str, Decimal], ...]:
        """Give what the total is made of, without what there is none of."""
        found = dict.fromkeys(SUMMARY, Decimal(0))
        there = set()
        for line in self.lines:
            what = "correction" if line in self.corrections else Kind(line.kind)
            found[what] += line.amount
            there.add(what)
        return tuple((label, found[what]) for what, label in SUMMARY.items() if what in there)


def contents_of(lines: Iterable[StatementLine]) -> Contents:
    """Sort ``lines`` into their places; within one they keep their order."""
    due: list[StatementLine] = []
    corrections: list[StatementLine] = []
    credits: list[StatementLine] = []
    beside: list[StatementLine] = []
    for line in lines:
        if not line.charged:
            beside.append(line)
        elif line.correction:
            corrections.append(line)
        elif line.kind in CREDIT_KINDS:
            credits.append(line)
        else:
            due.append(line)
    return Contents(_projects(due), tuple(corrections), tuple(credits), tuple(beside))


def charged(lines: Iterable[StatementLine]) -> Decimal:
    """Sum what is charged."""
    return sum((line.amount for line in lines if line.charged), Decimal(0))


def _projects(lines: Sequence[StatementLine]) -> tuple[Section, ...]:
    def project(line: StatementLine) -> tuple[bool, str, str, str]:
        # What is of the whole tenant comes last.
        return line.project_id is None, line.project_name, line.cost_centre, str(line.project_id)

    return tuple(
        Section("Whole tenant" if whole else name, cost_centre, tuple(group))
        for (whole, name, cost_centre, _), group in groupby(sorted(lines, key=project), key=project)
    )
