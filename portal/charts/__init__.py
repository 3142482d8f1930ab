"""Rows in, Plotly figures out. The one room that imports plotly; no queries here.

A figure is a plain dict of ``data`` and ``layout`` that JSON can carry. Colours and fonts come from the
page's style sheet (``static/berth/js/charts.js``). The cards give what ``components/chart.html`` takes,
with the same rows as a table and as CSV.
"""

from portal.charts.axis import TimeAxis, axis_of, axis_of_days
from portal.charts.bars import Point
from portal.charts.cards import Card, daily_card, lines_card, ranked_card, series_card, utilization_card
from portal.charts.heat import Share, utilization_map
from portal.charts.strips import StripDay, strip

__all__ = [
    "Card",
    "Point",
    "Share",
    "StripDay",
    "TimeAxis",
    "axis_of",
    "axis_of_days",
    "daily_card",
    "lines_card",
    "ranked_card",
    "series_card",
    "strip",
    "utilization_card",
    "utilization_map",
]
