"""Monthly statements: from quantities and prices to lines, drafts and final documents."""

from billing.statements.drafts import statement_draft
from billing.statements.export import statement_csv

__all__ = ["statement_csv", "statement_draft"]
