"""The double-entry ledger: what final statements, credits and their expiry come to, in accounts of each tenant."""

from billing.ledger.check import Finding, ledger_check
from billing.ledger.postings import Posting, balances, credit_posted, post, post_all

__all__ = ["Finding", "Posting", "balances", "credit_posted", "ledger_check", "post", "post_all"]
