"""What ended requests add up to, by endpoint and class: whole numbers and histograms, cheap to add to."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, Outcome, SloClass
from gateway.metering.records import UsageRecord

#: Upper bounds in milliseconds of what the gateway itself takes, finer than those of engines.
OWN_BOUNDS_MS: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 250, 1_000, 5_000)

#: Refusals for want of room, by their code: the request was in order and came at a bad time.
SHED_CODES: Final = frozenset({"overloaded"})


class Distribution:
    """How many values fell below which of ``bounds``, and their sum. The last count is of what is above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Targets(NamedTuple):
    """Milliseconds within which a class promises a first token, and the next ones."""

    ttft: float
    itl: float


_NO_TARGETS: Final = Targets(math.inf, math.inf)


class Tally:
    """The requests of one endpoint and class since the process began. Durations are milliseconds.

    ``ttft_late`` and ``itl_late`` are requests beyond the class's target, which is infinite where it has none.
    """

    __slots__ = (
        "cached_tokens", "codes", "decode", "input_tokens", "itl", "itl_late", "itl_target",
        "outcomes", "output_tokens", "own", "prefill", "queue", "refused", "shed", "ttft", "ttft_late",
        "ttft_target",
    )  # fmt: skip

    def __init__(self, targets: Targets) -> None:
        self.ttft_target, self.itl_target = targets
        self.ttft_late = 0
        self.itl_late = 0
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.codes: dict[str, int] = {}
        self.shed = 0
        self.refused = 0  # for other reasons
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.ttft = Distribution(LATENCY_BOUNDS_MS)
        self.itl = Distribution(ITL_BOUNDS_MS)
        self.queue = Distribution(LATENCY_BOUNDS_MS)
        self.prefill = Distribution(LATENCY_BOUNDS_MS)
        self.decode = Distribution(LATENCY_BOUNDS_MS)
        self.own = Distribution(OWN_BOUNDS_MS)

    def add(self, record: UsageRecord) -> None:
        """Count one ended request."""
        self.outcomes[record.outcome] += 1
        self.input_tokens += record.input_tokens
        self.output_tokens += record.output_tokens
        self.cached_tokens += record.cached_tokens
        if record.code:
            self.codes[record.code] = self.codes.get(record.code, 0) + 1
            if record.code in SHED_CODES:
                self.shed += 1
            elif record.outcome is Outcome.REFUSED:
                self.refused += 1
        if record.own_ms is not None:
            self.own.add(record.own_ms)
        if record.queue_ms is not None:
            self.queue.add(record.queue_ms)
        if record.ttft_ms is not None:
            self.ttft.add(record.ttft_ms)
            self.ttft_late += record.ttft_ms > self.ttft_target
            if record.prefill_ms is not None:
                self.prefill.add(record.prefill_ms)
        if record.itl_ms is not None:
            self.itl.add(record.itl_ms)
            self.itl_late += record.itl_ms > self.itl_target
        if record.decode_ms is not None:
            self.decode.add(record.decode_ms)


class Level:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1

    def dec(self) -> None:
        """One less."""
        self.value -= 1


class Tallies:
    """All tallies of one process, and its requests in progress by endpoint. Belongs to one thread."""

    def __init__(self) -> None:
        self.by_endpoint: dict[str, dict[str, Tally]] = {}  # then by class
        self.in_flight: dict[str, Level] = {}
        self._targets: dict[str, Targets] = {}

    def add(self, record: UsageRecord) -> None:
        """Count one ended request."""
        try:
            tally = self.by_endpoint[record.endpoint_id][record.slo_class]
        except KeyError:
            by_class = self.by_endpoint.setdefault(record.endpoint_id, {})
            tally = by_class[record.slo_class] = Tally(self._targets.get(record.slo_class, _NO_TARGETS))
        tally.add(record)

    def level(self, endpoint_id: str) -> Level:
        """Give the requests in progress of one endpoint."""
        level = self.in_flight.get(endpoint_id)
        if level is None:
            level = self.in_flight[endpoint_id] = Level()
        return level

    def aim(self, classes: Iterable[SloClass]) -> None:
        """Take over the targets of ``classes``; what was late by others stays counted."""
        self._targets = {
            each.name: Targets(
                math.inf if each.ttft_ms is None else each.ttft_ms,
                math.inf if each.itl_ms is None else each.itl_ms,
            )
            for each in classes
        }
        for by_class in self.by_endpoint.values():
            for name, tally in by_class.items():
                tally.ttft_target, tally.itl_target = self._targets.get(name, _NO_TARGETS)

    def keep(self, endpoint_ids: frozenset[str]) -> None:
        """Forget what is of no endpoint in ``endpoint_ids`` any more and has no request in progress."""
        for endpoint_id in self.by_endpoint.keys() - endpoint_ids - {""}:
            if not self.level(endpoint_id).value:
                del self.by_endpoint[endpoint_id]
        for endpoint_id in self.in_flight.keys() - endpoint_ids:
            if not self.in_flight[endpoint_id].value:
                del self.in_flight[endpoint_id]
