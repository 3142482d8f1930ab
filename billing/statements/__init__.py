"""Monthly statements: from quantities and prices to lines, drafts and final documents."""

from billing.statements.drafts import statement_draft

__all__ = ["statement_draft"]
