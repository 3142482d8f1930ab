"""What-ifs in people's words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from clusters.endpoints.load.running import Running
from clusters.endpoints.what_if.one import Side, WhatIf
from portal.templatetags.berth import DASH, money, percent, sentence

UNPLACED = "cannot be placed"


def show_what_if(found: WhatIf) -> dict[str, Any]:
    """Give a what-if as ``tenant/endpoint/what_if.html`` takes it."""
    sides = [side for side in (found.now, found.before, found.after) if side is not None]
    return {
        "headline": _headline(found),
        "basis": _basis(found),
        "sides": [_side(side, found.currency) for side in sides],
        "held": found.held_price is not None
        and found.now is not None
        and found.held_price != found.now.price_per_hour
        and money(found.held_price, found.currency),
        "refused": sentence(found.after.plan.message)
        if found.after.plan is not None and found.after.plan.configuration is None
        else "",
    }


def difference_words(difference: Decimal, currency: str) -> str:
    """Write a difference in price per hour: so much less, so much more, no difference."""
    if difference == 0:
        return "costs the same"
    more = "more" if difference > 0 else "less"
    return f"costs {money(abs(difference), currency)} {more} per hour"


def _headline(found: WhatIf) -> str:
    difference = found.difference_per_hour
    if difference is None:
        return "With the change it could not be placed." if found.after.price_per_hour is None else ""
    return f"With the change it {difference_words(difference, found.currency)}."


def _basis(found: WhatIf) -> str:
    if not found.measured:
        return (
            "It has too little history to judge by: this is for the load that was ordered, and says nothing of "
            "how many hours would have kept the targets."
        )
    return f"For the load that was measured in {found.hours} hours with requests of the last 30 days."


def _side(side: Side, currency: str) -> dict[str, Any]:
    return {
        "label": side.label,
        "slo_class": side.slo_class.title,
        "runs": _words(side.running, side.cluster),
        "hour": money(side.price_per_hour, currency),
        "day": money(side.price_per_day, currency),
        "month": money(side.price_per_month, currency),
        "kept": DASH if side.kept is None else percent(side.kept),
    }


def _words(running: Running | None, cluster: str) -> str:
    if running is None:
        return UNPLACED
    shape = running.shape
    return f"{running.replicas} x {shape.gpus} {shape.gpu.name} in {cluster}, {shape.precision}"
