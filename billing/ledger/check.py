"""The trial balance: whether ledger, final statements and their lines say the same."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Collection
from typing import Final

from django.db import connection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that does not add up, in words."""

    tenant_id: uuid.UUID
    text: str


_WHOSE: Final = "(%(tenants)s::uuid[] IS NULL OR {column} = ANY(%(tenants)s))"

_UNBALANCED: Final = """
SELECT entry.tenant_id, 'transaction ' || posted.reference || ' sums to ' || sum(entry.amount)
    || ' over ' || count(DISTINCT account.currency) || ' currencies'
FROM billing_ledgerentry AS entry
JOIN billing_ledgertransaction AS posted ON posted.id = entry.transaction_id
JOIN billing_ledgeraccount AS account ON account.id = entry.account_id
WHERE {whose}
GROUP BY entry.tenant_id, posted.id, posted.reference
HAVING sum(entry.amount) <> 0 OR count(DISTINCT account.currency) > 1
"""

_RECEIVABLE: Final = """
SELECT tenant_id, 'the receivable in ' || currency || ' is ' || coalesce(receivable, 0)
    || ', its final statements sum to ' || coalesce(billed, 0)
FROM (
    SELECT tenant_id, currency, sum(total) AS billed FROM billing_statement AS statement
    WHERE state = 'final' AND {statements} GROUP BY tenant_id, currency
) AS statements
FULL JOIN (
    SELECT entry.tenant_id, account.currency, sum(entry.amount) AS receivable
    FROM billing_ledgerentry AS entry JOIN billing_ledgeraccount AS account ON account.id = entry.account_id
    WHERE account.kind = 'receivable' AND {whose} GROUP BY entry.tenant_id, account.currency
) AS ledger USING (tenant_id, currency)
WHERE coalesce(receivable, 0) <> coalesce(billed, 0)
"""

_LINES: Final = """
SELECT statement.tenant_id, 'the charged lines of statement ' || statement.number || ' sum to '
    || coalesce(sum(line.amount) FILTER (WHERE line.charged), 0) || ', its total is ' || statement.total
FROM billing_statement AS statement
LEFT JOIN billing_statementline AS line ON line.statement_id = statement.id AND line.tenant_id = statement.tenant_id
WHERE statement.state = 'final' AND {statements}
GROUP BY statement.tenant_id, statement.id, statement.number, statement.total
HAVING coalesce(sum(line.amount) FILTER (WHERE line.charged), 0) <> statement.total
"""

# By account: what lines of its kinds charge is what stands on its other side.
_ENTRIES: Final = """
SELECT tenant_id, 'statement ' || number || ' has lines of ' || coalesce(lined, 0) || ' for the account '
    || kind || ', which holds ' || coalesce(entered, 0)
FROM (
    SELECT line.tenant_id, statement.number, CASE line.kind
            WHEN 'commitment' THEN 'commitments' WHEN 'slo_credit' THEN 'slo_credits'
            WHEN 'credit' THEN 'credit_balance' ELSE line.kind END AS kind, sum(line.amount) AS lined
    FROM billing_statement AS statement
    JOIN billing_statementline AS line ON line.statement_id = statement.id AND line.tenant_id = statement.tenant_id
    WHERE statement.state = 'final' AND line.charged AND {statements} GROUP BY 1, 2, 3
) AS lines
FULL JOIN (
    SELECT entry.tenant_id, statement.number, account.kind, -sum(entry.amount) AS entered
    FROM billing_ledgerentry AS entry
    JOIN billing_ledgeraccount AS account ON account.id = entry.account_id
    JOIN billing_ledgertransaction AS posted ON posted.id = entry.transaction_id
    JOIN billing_statement AS statement ON statement.id = posted.statement_id
    WHERE account.kind <> 'receivable' AND {whose} GROUP BY 1, 2, 3
) AS ledger USING (tenant_id, number, kind)
WHERE coalesce(lined, 0) <> coalesce(entered, 0)
"""


def ledger_check(*, tenant_ids: Collection[uuid.UUID] | None = None, quick: bool = False) -> list[Finding]:
    """Give what does not add up, of all tenants or of some; nothing where all does. For the platform's scope.

    Each transaction must sum to zero in one currency, each tenant's receivable be the sum of its final statements,
    and each final statement's lines be its total and its entries. ``quick`` compares receivables only.
    """
    queries = [_RECEIVABLE] if quick else [_UNBALANCED, _RECEIVABLE, _LINES, _ENTRIES]
    findings = []
    parameters = {"tenants": list(tenant_ids) if tenant_ids is not None else None}
    with connection.cursor() as cursor:
        for query in queries:
            whose = _WHOSE.format(column="entry.tenant_id")
            statements = _WHOSE.format(column="statement.tenant_id")
            cursor.execute(query.format(whose=whose, statements=statements), parameters)
            findings += [Finding(tenant_id=row[0], text=row[1]) for row in cursor.fetchall()]
    return sorted(findings, key=lambda found: (str(found.tenant_id), found.text))
