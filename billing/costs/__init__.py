"""What a period cost, on both bases: GPU time held, and tokens used at the price book."""

from billing.costs.dimensions import Dimension, Names, Narrow, narrow_to
from billing.costs.month import MonthSoFar, month_so_far
from billing.costs.series import CostGroup, Costs, cost_series, cost_summary
from billing.costs.sums import GPU_PRICES, MILLION, PLACES, TOKEN_PRICES, Cost, Sums, token_cuts

__all__ = [
    "GPU_PRICES",
    "MILLION",
    "PLACES",
    "TOKEN_PRICES",
    "Cost",
    "CostGroup",
    "Costs",
    "Dimension",
    "MonthSoFar",
    "Names",
    "Narrow",
    "Sums",
    "cost_series",
    "cost_summary",
    "month_so_far",
    "narrow_to",
    "token_cuts",
]
