"""The canonical document of a statement: the bytes that its hash is over, and that a replay must give again."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from billing.models import Statement
from billing.statements.lines import Line, line_of

FORMAT = "berth.statement/1"


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What a statement says above its lines. ``number`` is empty and ``finalized_at`` None until it is final."""

    tenant_id: uuid.UUID
    tenant_name: str
    month: dt.date
    time_zone: str
    period_start: dt.datetime
    period_end: dt.datetime
    currency: str
    charges: Decimal
    credits: Decimal
    total: Decimal
    number: str = ""
    finalized_at: dt.datetime | None = None
    inputs_sha256: str = ""
    format: str = FORMAT


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    statement: Heading
    lines: Sequence[Line]


_encode = msgspec.json.Encoder(order="sorted").encode


def heading_of(statement: Statement) -> Heading:
    """Give the heading of a stored statement. Drafts have no number, and their inputs are not sealed."""
    final = statement.state == Statement.State.FINAL
    return Heading(
        tenant_id=statement.tenant_id,
        tenant_name=statement.tenant_name,
        month=statement.month,
        time_zone=statement.time_zone,
        period_start=statement.period_start,
        period_end=statement.period_end,
        currency=statement.currency,
        charges=_four(statement.charges),
        credits=_four(statement.credits),
        total=_four(statement.total),
        number=statement.number,
        finalized_at=statement.finalized_at,
        inputs_sha256=statement.inputs_sha256 if final else "",
    )


def document(heading: Heading, lines: Sequence[Line]) -> bytes:
    """Give canonical JSON: sorted keys, no blanks, amounts as strings with four decimal places, times in UTC."""
    return _encode(_Document(statement=heading, lines=lines))


def statement_document(statement: Statement) -> bytes:
    """Give the canonical document of a stored statement from its rows."""
    return document(heading_of(statement), [line_of(row) for row in statement.lines.order_by("position")])


def sha256(content: bytes) -> str:
    """Give the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _four(amount: Decimal) -> Decimal:
    return Decimal(amount).quantize(Decimal("0.0001"))
