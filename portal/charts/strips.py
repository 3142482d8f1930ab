"""A strip of days: whether targets were kept, one bar a day. Drawn by the page itself, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

#: How high the bar of a day is, of 1: what kept its targets stands, what missed one is short, no requests is a line.
_HEIGHTS: Final = {"kept": 1.0, "missed": 0.45, "none": 0.08}
_WORDS: Final = {"kept": "kept", "missed": "missed", "none": "no requests"}


#: Whether one day, or a few, kept its targets; None where there was nothing to judge by.
StripDay = bool | None


def strip(days: Sequence[StripDay]) -> dict[str, Any]:
    """Give what ``components/strip.html`` takes: a path for each state that occurs, and ``text`` that sums them up."""
    width = 100 / max(len(days), 1)
    states = ["none" if kept is None else "kept" if kept else "missed" for kept in days]
    paths = {}
    for state, height in _HEIGHTS.items():
        places = [number for number, each in enumerate(states) if each == state]
        if places:
            bar = f"v-{100 * height:g}h{width * 0.8:.2f}v{100 * height:g}z"
            paths[state] = "".join(f"M{place * width:.2f} 100{bar}" for place in places)
    return {
        "paths": paths,
        "text": ", ".join(
            f"{states.count(state)} {'bar' if states.count(state) == 1 else 'bars'} {_WORDS[state]}"
            for state in _HEIGHTS
            if state in states
        ),
    }
