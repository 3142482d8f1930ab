"""Writing statements and their lines, many at once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from django.db import connection
from django.utils import timezone

from billing.models import Statement, StatementNumber
from billing.statements.computing import Computed
from billing.statements.document import Heading
from billing.statements.lines import FIELDS
from tenants.models.base import new_id

State = Statement.State

_LINE_COLUMNS: Final = ("id", "created_at", "tenant_id", "statement_id", "position", *FIELDS)
# PostgreSQL takes no COPY into a table with row-level security: rows pass through one of the transaction's own.
_PASSAGE: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS passing_line (LIKE billing_statementline) ON COMMIT DROP;
TRUNCATE passing_line
"""
_COPY_LINES: Final = f"COPY passing_line ({', '.join(_LINE_COLUMNS)}) FROM STDIN"
_INSERT_LINES: Final = f"""
INSERT INTO billing_statementline ({", ".join(_LINE_COLUMNS)}) SELECT {", ".join(_LINE_COLUMNS)} FROM passing_line
"""  # noqa: S608
_encode_how = msgspec.json.Encoder(order="sorted").encode

_NEW: Final = """
INSERT INTO billing_statement (id, created_at, tenant_id, month, state, number, tenant_name, time_zone, currency,
    period_start, period_end, charges, credits, total, computed_at, inputs_sha256, document_sha256)
VALUES (%s, %s, %s, %s, %s, '', %s, %s, %s, %s, %s, %s, %s, %s, %s, '', %s)
ON CONFLICT (tenant_id, month) DO NOTHING
"""
_OPEN: Final = """
UPDATE billing_statement SET state = %s, tenant_name = %s, time_zone = %s, currency = %s, period_start = %s,
    period_end = %s, charges = %s, credits = %s, total = %s, computed_at = %s, document_sha256 = %s
WHERE id = %s
"""
_FINAL: Final = """
UPDATE billing_statement SET state = 'final', number = %s, tenant_name = %s, time_zone = %s, currency = %s,
    period_start = %s, period_end = %s, charges = %s, credits = %s, total = %s, computed_at = %s, finalized_at = %s,
    inputs = %s, inputs_sha256 = %s, document_sha256 = %s
WHERE id = %s
"""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """An open statement as it is to be stored; ``statement_id`` is None where there is no row of it yet."""

    computed: Computed
    heading: Heading
    state: str
    document_sha256: str
    statement_id: uuid.UUID | None

    @property
    def changed(self) -> bool:
        """Say whether the stored lines are other ones."""
        kept = self.computed.case.kept
        return kept is None or kept.document_sha256 != self.document_sha256


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sealed:
    """A statement as it is to be closed, over the lines that are stored."""

    draft: Draft
    heading: Heading
    inputs: bytes
    document_sha256: str


def write_drafts(drafts: Sequence[Draft], now: dt.datetime) -> list[Draft]:
    """Write open statements and their lines where they changed; give those that are stored now.

    One whose row another transaction has made meanwhile is left to the next run.
    """
    new, known = [], []
    for draft in drafts:
        (known if draft.statement_id else new).append(draft)
    made = {draft.computed.case.tenant.id: new_id() for draft in new}
    moment = timezone.now()
    with connection.cursor() as cursor:
        if new:
            cursor.executemany(_NEW, [_new_row(draft, made, moment, now) for draft in new])
            cursor.execute(
                "SELECT tenant_id FROM billing_statement WHERE id = ANY(%s)", [list(made.values())]
            )
            ours = {tenant_id for (tenant_id,) in cursor.fetchall()}
            known += [
                dataclasses.replace(draft, statement_id=made[draft.computed.case.tenant.id])
                for draft in new
                if draft.computed.case.tenant.id in ours
            ]
        old = [draft for draft in known if draft.computed.case.kept is not None]
        if old:
            cursor.executemany(_OPEN, [_open_row(draft, now) for draft in old])
    changed = [draft for draft in known if draft.changed]
    _replace_lines(changed, moment)
    return known


def _replace_lines(drafts: Sequence[Draft], moment: dt.datetime) -> None:
    had = [draft.statement_id for draft in drafts if draft.computed.case.kept is not None]
    with connection.cursor() as cursor:
        if had:
            cursor.execute("DELETE FROM billing_statementline WHERE statement_id = ANY(%s)", [had])
        if not any(draft.computed.composed.lines for draft in drafts):
            return
        cursor.execute(_PASSAGE)
        with cursor.copy(_COPY_LINES) as copy:
            for draft in drafts:
                tenant_id = draft.computed.case.tenant.id
                for position, line in enumerate(draft.computed.composed.lines, start=1):
                    facts: list[Any] = [getattr(line, name) for name in FIELDS]
                    facts[-1] = _encode_how(line.how).decode()
                    copy.write_row((new_id(), moment, tenant_id, draft.statement_id, position, *facts))
        cursor.execute(_INSERT_LINES)


def write_finals(sealed: Sequence[Sealed]) -> None:
    """Close statements whose lines are stored: from here on the database refuses every change."""
    with connection.cursor() as cursor:
        cursor.executemany(
            _FINAL,
            [
                (
                    each.heading.number, *_heading_row(each.heading), each.heading.finalized_at,
                    each.heading.finalized_at, each.inputs, each.heading.inputs_sha256, each.document_sha256,
                    each.draft.statement_id,
                )
                for each in sealed
            ],
        )  # fmt: skip


def numbers(month: dt.date, count: int) -> list[str]:
    """Take ``count`` numbers of a month. Others wait for them until the transaction ends, so there are no gaps."""
    StatementNumber.objects.bulk_create([StatementNumber(month=month)], ignore_conflicts=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_statementnumber SET last = last + %s WHERE month = %s RETURNING last",
            [count, month],
        )
        (last,) = cursor.fetchone()
    return [f"{month:%Y-%m}-{number:06d}" for number in range(last - count + 1, last + 1)]


def _new_row(
    draft: Draft, made: dict[uuid.UUID, uuid.UUID], moment: dt.datetime, now: dt.datetime
) -> tuple[object, ...]:
    tenant_id = draft.computed.case.tenant.id
    return (
        made[tenant_id], moment, tenant_id, draft.heading.month, draft.state, *_heading_row(draft.heading), now,
        draft.document_sha256,
    )  # fmt: skip


def _open_row(draft: Draft, now: dt.datetime) -> tuple[object, ...]:
    return (draft.state, *_heading_row(draft.heading), now, draft.document_sha256, draft.statement_id)


def _heading_row(heading: Heading) -> tuple[object, ...]:
    return (
        heading.tenant_name, heading.time_zone, heading.currency, heading.period_start, heading.period_end,
        heading.charges, heading.credits, heading.total,
    )  # fmt: skip
