"""Whether an endpoint's month kept the targets of its class."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from billing.statements.inputs import Attained

#: In this share of the hours with requests the 95th percentile must be within its target.
HOURS_SHARE: Final = Decimal("0.95")


def missed_targets(attained: Attained) -> list[str]:
    """Name the targets that the month missed, with both numbers; none where there were no requests.

    Availability is missed when more of the requests failed than the target leaves, a latency when it was within its
    target in fewer than 95 % of the hours that had requests.
    """
    missed = []
    if attained.requests and attained.failed > attained.allowed:
        reached = 1 - Decimal(attained.failed) / attained.requests
        missed.append(
            f"availability {_percent(reached)} of {_percent(attained.availability)}"
            f" ({attained.failed:,} of {attained.requests:,} requests failed)"
        )
    for name, target, met in (
        ("TTFT", attained.ttft_p95_ms, attained.ttft_met),
        ("ITL", attained.itl_p95_ms, attained.itl_met),
    ):
        if target is not None and attained.hours and met < HOURS_SHARE * attained.hours:
            missed.append(f"{name} p95 within {target} ms in {met} of {attained.hours} hours")
    return missed


def _percent(share: Decimal) -> str:
    return f"{round(share * 100, 3).normalize():f} %"
