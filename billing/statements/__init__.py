"""Monthly statements: from quantities and prices to lines, drafts and final documents."""

from billing.statements.accounts import account_park, account_unpark
from billing.statements.document import statement_document
from billing.statements.drafts import statement_close, statement_draft
from billing.statements.run import Run, statement_run

__all__ = [
    "Run",
    "account_park",
    "account_unpark",
    "statement_close",
    "statement_document",
    "statement_draft",
    "statement_run",
]
