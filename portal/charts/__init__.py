"""Rows in, Plotly figures out. The one room that imports plotly; no queries here.

A figure is a plain dict of ``data`` and ``layout`` that JSON can carry. Colours and fonts come from the
page's style sheet (``static/berth/js/charts.js``). The cards give what ``components/chart.html`` takes,
with the same rows as a table.
"""

from portal.charts.bars import Point, daily_bars
from portal.charts.cards import daily_card, utilization_card
from portal.charts.heat import Share, utilization_map

__all__ = ["Point", "Share", "daily_bars", "daily_card", "utilization_card", "utilization_map"]
