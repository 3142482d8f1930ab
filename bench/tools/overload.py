"""Ten times what an engine can do, for a minute, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.tools import engine, load
from bench.tools.figures import Figures, quantile, share

CAPACITY_PER_S: Final = engine.SLOTS / engine.SERVICE_S
BEFORE_S: Final = 5.0
BEFORE_SHARE: Final = 0.7
OVERLOAD_S: Final = 60.0
TIMES: Final = 10.0
AFTER_S: Final = 15.0
#: An answer that took longer is no good to whoever asked.
GOOD_MS: Final = 2_000.0
WINDOW_S: Final = 1.0
WELL: Final = 0.99
GRACE_S: Final = 5.0
CONNECTIONS: Final = 64


async def measure(call: dict[str, Any]) -> Figures:
    """Load 0.7, then 10, then again 0.7 times the capacity of the model ``bounded``.

    ``goodput`` counts answers within :data:`GOOD_MS` in the overload after its first :data:`GRACE_S`, as a share of
    what the engine can do. ``recovery`` is how long after the overload's end the first second begins from which on at
    least 99 % of requests get such answers, all to the end.
    """
    rate = CAPACITY_PER_S * BEFORE_SHARE
    plan = load.plan_for(
        **call,
        connections=CONNECTIONS,
        seconds=BEFORE_S,
        rate=rate,
        then=((OVERLOAD_S, CAPACITY_PER_S * TIMES), (AFTER_S, rate)),
        record=True,
    )
    report = await load.run(plan)
    begin, end = BEFORE_S, BEFORE_S + OVERLOAD_S
    during = [each for each in report.requests if begin <= each.sent_s < end]
    refused = [each.took_ms for each in during if each.status in (429, 503)]
    good = [
        each
        for each in report.requests
        if _good(each) and begin + GRACE_S <= each.sent_s + each.took_ms / 1000 < end
    ]
    before = [each for each in report.requests if each.sent_s < begin]
    return {
        "overload_offered_per_s": len(during) / OVERLOAD_S,
        "overload_capacity_per_s": CAPACITY_PER_S,
        "overload_before_good_share": share(sum(map(_good, before)), len(before)),
        "overload_goodput_share": len(good) / (OVERLOAD_S - GRACE_S) / CAPACITY_PER_S,
        "overload_answer_p50_ms": quantile([each.took_ms for each in during if each.status == 200], 0.5),
        "overload_answer_p99_ms": quantile([each.took_ms for each in during if each.status == 200], 0.99),
        "overload_refused_share": share(len(refused), len(during)),
        "overload_refusal_p50_ms": quantile(refused, 0.5),
        "overload_refusal_p99_ms": quantile(refused, 0.99),
        "overload_other_failures": sum(each.status not in (200, 429, 503) for each in during),
        "recovery_s": _recovery_s([each for each in report.requests if each.sent_s >= end], end),
    }


def _good(request: load.Request) -> bool:
    return request.status == 200 and request.took_ms <= GOOD_MS


def _recovery_s(after: Sequence[load.Request], end: float) -> float:
    """Give the start of the first window from which on all windows go well, in seconds after ``end``."""
    windows = int(AFTER_S / WINDOW_S)
    well = []
    for number in range(windows):
        inside = [each for each in after if number * WINDOW_S <= each.sent_s - end < (number + 1) * WINDOW_S]
        well.append(bool(inside) and sum(map(_good, inside)) >= WELL * len(inside))
    bad = [number for number, fine in enumerate(well) if not fine]
    if not bad:
        return 0.0
    return (bad[-1] + 1) * WINDOW_S if bad[-1] + 1 < windows else float("inf")
