"""The axis of time: buckets, what they are called, and how Plotly labels them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from collections.abc import Iterable, Sequence
from typing import Any, Final

_DAY_MS: Final = 86_400_000
_MOST_TICKS: Final = 10

#: By the width of a bucket: how it is written, what a label of it is headed by, and how Plotly writes it.
_WRITTEN: Final = {
    "1m": ("%Y-%m-%d %H:%M", "Minute, UTC", {"tickformat": "%H:%M\n%-d %b", "hoverformat": "%-d %b, %H:%M UTC"}),
    "1h": ("%Y-%m-%d %H:%M", "Hour, UTC", {"tickformat": "%H:%M\n%-d %b", "hoverformat": "%-d %b, %H:%M UTC"}),
    "1d": ("%Y-%m-%d", "Day", {"tickformat": "%-d %b", "hoverformat": "%a %-d %b %Y"}),
    "1M": ("%Y-%m", "Month", {"tickformat": "%b %Y", "hoverformat": "%B %Y"}),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TimeAxis:
    """Buckets in order. ``labels`` say where each begins, in a form that Plotly reads as a date, too."""

    moments: tuple[dt.datetime | dt.date, ...]
    labels: tuple[str, ...]
    width: str

    @property
    def title(self) -> str:
        """What heads a column of labels."""
        return _WRITTEN[self.width][1]

    @property
    def unit(self) -> str:
        """What one bucket is called in a sentence."""
        return self.title.split(",")[0].lower()

    def plotly(self) -> dict[str, Any]:
        """Give the x axis with at most ten labels."""
        axis: dict[str, Any] = {"type": "date", **_WRITTEN[self.width][2]}
        every = max(1, -(-len(self.labels) // _MOST_TICKS))
        if self.width == "1d":
            axis |= {"dtick": every * _DAY_MS}
        elif self.width == "1M":
            axis |= {"dtick": f"M{every}"}
        else:
            axis |= {"nticks": _MOST_TICKS}
        return axis | ({"tick0": self.labels[0]} if self.labels and "dtick" in axis else {})


def axis_of(moments: Iterable[dt.datetime], width: str, zone: str = "UTC") -> TimeAxis:
    """Give the axis of buckets that begin at ``moments``; months are those of ``zone``, all others of UTC."""
    moments = tuple(moments)
    where = zoneinfo.ZoneInfo(zone) if width == "1M" else dt.UTC
    form = _WRITTEN[width][0]
    return TimeAxis(moments, tuple(f"{moment.astimezone(where):{form}}" for moment in moments), width)


def axis_of_days(days: Sequence[dt.date]) -> TimeAxis:
    """Give the axis of whole days."""
    return TimeAxis(tuple(days), tuple(f"{day:%Y-%m-%d}" for day in days), "1d")
