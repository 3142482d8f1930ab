"""Making a final statement again from the inputs that it keeps, and comparing every byte.

Three witnesses must agree: the inputs (what was held and used, at which prices), the stored lines, and the entries of
the ledger. A statement can also be compared with the rollups, as long as they are kept: what differs there came later.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from django.db.models import Sum

from billing.models import LedgerEntry, Statement
from billing.statements.closing import postings_of
from billing.statements.compose import compose
from billing.statements.document import document, heading_of, sha256, statement_document
from billing.statements.gather import months, names_of
from billing.statements.inputs import Inputs, Month, digest, opened
from billing.statements.shared import Shares
from billing.statements.tariffs import listed, tariff_of
from billing.statements.windows import Window


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """A statement made again. ``problems`` are empty where it is the same, byte by byte."""

    statement: Statement
    document: bytes
    problems: tuple[str, ...]


def statement_replay(statement: Statement) -> Replay:
    """Make a final statement again from its inputs and compare it with its rows, its hashes and the ledger.

    For the platform's scope or that of its tenant.
    """
    problems = []
    try:
        inputs = opened(bytes(statement.inputs or b""))
        found = digest(bytes(statement.inputs or b""))
    except ValueError as error:
        return Replay(statement=statement, document=b"", problems=(str(error),))
    if found != statement.inputs_sha256:
        problems.append(f"the inputs have the hash {found}, sealed was {statement.inputs_sha256}")
    composed = compose(inputs)
    heading = msgspec.structs.replace(
        heading_of(statement),
        tenant_id=inputs.tenant_id,
        tenant_name=inputs.tenant_name,
        month=inputs.month.month,
        time_zone=inputs.time_zone,
        period_start=inputs.month.start,
        period_end=inputs.month.end,
        currency=inputs.currency,
        charges=composed.charges,
        credits=composed.credits,
        total=composed.total,
    )
    made = document(heading, composed.lines)
    if sha256(made) != statement.document_sha256:
        problems.append(
            f"made again, the document has the hash {sha256(made)}, sealed was {statement.document_sha256}"
        )
    if statement_document(statement) != made:
        problems.append("the stored lines are not those that the inputs give")
    entries = _entries(statement)
    if entries != (expected := postings_of(composed.lines)):
        problems.append(f"the ledger holds {_plain(entries)}, the inputs give {_plain(expected)}")
    return Replay(statement=statement, document=made, problems=tuple(problems))


def differences_since(statement: Statement) -> list[str]:
    """Compare a final statement's inputs with what rollups, allocations and prices of then say now, in words.

    Nothing where they agree. What is told here came after the close and goes onto a later statement as corrections. For
    the platform's scope.

    Raises:
        ValueError: the stored inputs cannot be read.
    """
    inputs = opened(bytes(statement.inputs or b""))
    then, now = inputs.month, _again(statement, inputs)
    names = {endpoint.id: endpoint.name for endpoint in inputs.endpoints}
    told: list[str] = []
    for what, rows_of, key, measures in _COMPARED:
        before, after = _sums(rows_of(then), key, measures), _sums(rows_of(now), key, measures)
        for each in sorted({*before, *after}, key=str):
            for measure in measures:
                was, found = before[each][measure], after[each][measure]
                if was != found:
                    endpoint = names.get(each[0], str(each[0]))
                    told.append(
                        f"{what} of {endpoint} ({', '.join(map(str, each[1:]))}): {measure} {was} then, {found} now"
                    )
    return told


_COMPARED: tuple[
    tuple[str, Callable[[Month], Iterable[Any]], tuple[str, ...], tuple[str, ...]], ...
] = (
    ("GPU time", lambda month: month.held, ("endpoint_id", "gpu_type", "region", "idle", "shared"), ("gpu_seconds",)),
    (
        "usage",
        lambda month: month.used,
        ("endpoint_id", "model", "slo_class"),
        ("requests", "input_tokens", "output_tokens", "cached_tokens"),
    ),
    ("attainment", lambda month: month.attained, ("endpoint_id", "slo_class"), ("requests", "failed", "hours")),
)  # fmt: skip


def _again(statement: Statement, inputs: Inputs) -> Month:
    tenant_id, month = statement.tenant_id, inputs.month
    prices = listed(statement.currency, [tenant_id], until=statement.finalized_at)
    tariff = tariff_of([*prices.get(None, ()), *prices.get(tenant_id, ())], tenant_id)
    shares = Shares(month.until)
    window = Window(month=month.month, start=month.start, end=month.end, until=month.until)
    found = months(
        window=window,
        currencies={tenant_id: statement.currency},
        books={tenant_id: tariff.own.book},
        names=names_of([tenant_id], shares),
        shares=shares,
    )
    return found[tenant_id]


def _sums(
    rows: Iterable[Any], key: tuple[str, ...], measures: tuple[str, ...]
) -> Mapping[tuple[Any, ...], Mapping[str, Decimal]]:
    sums: defaultdict[tuple[Any, ...], defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for row in rows:
        for measure in measures:
            sums[tuple(getattr(row, name) for name in key)][measure] += Decimal(getattr(row, measure))
    return sums


def _entries(statement: Statement) -> dict[str, Decimal]:
    rows = (
        LedgerEntry.objects.filter(transaction__statement=statement)
        .order_by()
        .values_list("account__kind")
        .annotate(Sum("amount"))
    )
    return {kind: amount for kind, amount in sorted(rows) if amount}


def _plain(amounts: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{kind} {amount:f}" for kind, amount in sorted(amounts.items())) or "nothing"
