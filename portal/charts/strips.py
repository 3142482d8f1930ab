"""A strip of days: whether targets were kept, one bar a day. Drawn by the page itself, without a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

#: How high the bar of a day is, of 1: what kept its targets stands, what missed one is short, no requests is a line.
_HEIGHTS: Final = {"kept": 1.0, "missed": 0.45, "none": 0.08}
_WORDS: Final = {"kept": "kept", "missed": "missed", "none": "no requests"}


@dataclasses.dataclass(frozen=True)
class StripDay:
    """One day. ``kept`` is None where there was nothing to judge by; ``text`` says the figures."""

    label: str
    kept: bool | None
    text: str = ""


def strip(days: Sequence[StripDay]) -> dict[str, Any]:
    """Give what ``components/strip.html`` takes: ``cells`` in percent of its size, and ``text`` that sums them up."""
    width = 100 / max(len(days), 1)
    states = ["none" if day.kept is None else "kept" if day.kept else "missed" for day in days]
    return {
        "cells": [
            {
                "state": state,
                "title": f"{day.label}: {day.text or _WORDS[state]}",
                "x": round(number * width, 3),
                "width": round(width * 0.8, 3),
                "y": round(100 * (1 - _HEIGHTS[state]), 1),
                "height": round(100 * _HEIGHTS[state], 1),
            }
            for number, (day, state) in enumerate(zip(days, states, strict=True))
        ],
        "text": ", ".join(
            f"{states.count(state)} {'day' if states.count(state) == 1 else 'days'} {_WORDS[state]}"
            for state in _HEIGHTS
            if state in states
        ),
    }
