"""Budgets at a gateway: what a request may cost is held before it goes out, what it did cost is settled after."""

from gateway.budgets.book import LeaseBook
from gateway.budgets.gate import BudgetGate
from gateway.budgets.lessee import Lessee

__all__ = ["BudgetGate", "LeaseBook", "Lessee"]
