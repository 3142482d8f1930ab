"""The line of one request, and the counting of lines into segments."""

from __future__ import annotations

import bisect
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, MOST_DAYS, Outcome, UsageSegment

_MINUTE_S: Final = 60
#: How long after a window's end its charges are kept, for a gateway that is cut off from the ledger meanwhile.
_CHARGES_KEPT: Final = dt.timedelta(days=8)


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one request of a known key used. ``ended_at`` is seconds since the epoch, UTC.

    ``endpoint_id`` and what follows from it are empty for a request that named none it may call.
    ``ttft_ms`` is None if no token came, ``itl_ms`` if not enough came to tell the time between them. ``charges``
    says what was settled of which budget's window (budget, begin, end), in the budget's smallest unit as a decimal
    string. ``code`` is what the client of a refused or failed request was told. ``own_ms`` is how long the gateway
    took until it asked for a place at a replica, ``queue_ms`` how long there was none, ``prefill_ms`` the time from
    the place to the first token, ``decode_ms`` from there to the last; None where it did not come to that.
    ``retries`` are attempts at an engine after the first.
    """

    request_id: str
    ended_at: float
    tenant_id: str
    project_id: str
    key_id: str
    outcome: Outcome
    region: str
    endpoint_id: str = ""
    revision_id: str | None = None
    model: str = ""
    slo_class: str = ""
    status: int = 200
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    ttft_ms: float | None = None
    itl_ms: float | None = None
    duration_ms: float = 0.0
    route_id: str | None = None
    charges: dict[str, str] = {}
    code: str = ""
    own_ms: float | None = None
    queue_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    retries: int = 0


class Totals(msgspec.Struct):
    """Sums over records, for comparing both ends of the pipe."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def add(self, other: Totals | UsageRecord | UsageSegment) -> None:
        """Add a record, a segment, or other totals."""
        self.requests += 1 if isinstance(other, UsageRecord) else other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens


def add_charges(before: Mapping[str, str], records: Iterable[UsageRecord], *, now: float) -> dict[str, str]:
    """Add what ``records`` settled to what was settled before, and drop windows that ended long before ``now``."""
    sums = {window: int(units) for window, units in before.items()}
    for record in records:
        for window, units in record.charges.items():
            sums[window] = sums.get(window, 0) + int(units)
    earliest = dt.datetime.fromtimestamp(now, dt.UTC) - _CHARGES_KEPT
    return {
        window: str(units)
        for window, units in sums.items()
        if dt.datetime.fromisoformat(window.rpartition("/")[2]) > earliest
    }


def add_days(before: Mapping[str, Totals], records: Iterable[UsageRecord]) -> dict[str, Totals]:
    """Add ``records`` to the totals of the UTC days in which they ended; keep the last days of them all.

    They are summed from the records themselves, not from the segments that these are counted into, so that the
    control plane can compare the two.
    """
    days = {day: msgspec.structs.replace(sums) for day, sums in before.items()}
    for record in records:
        day = dt.datetime.fromtimestamp(record.ended_at, dt.UTC).date().isoformat()
        days.setdefault(day, Totals()).add(record)
    return {day: days[day] for day in sorted(days)[-MOST_DAYS:]}


class _Group(msgspec.Struct):
    first: UsageRecord
    start: float
    end: float
    totals: Totals
    input_squared: int
    output_squared: int
    ttft: list[int]
    itl: list[int]


def count_segments(
    records: Iterable[UsageRecord], *, gateway: str, first_sequence: int
) -> tuple[UsageSegment, ...]:
    """Count records into one segment per tenant, UTC minute, key, endpoint, class, revision, region, outcome, route."""
    groups: dict[tuple[object, ...], _Group] = {}
    for record in records:
        identity = (
            record.tenant_id,
            int(record.ended_at // _MINUTE_S),
            record.key_id,
            record.project_id,
            record.endpoint_id,
            record.slo_class,
            record.revision_id,
            record.region,
            record.outcome,
            record.route_id,
        )
        group = groups.get(identity)
        if group is None:
            group = groups[identity] = _Group(
                first=record,
                start=record.ended_at,
                end=record.ended_at,
                totals=Totals(),
                input_squared=0,
                output_squared=0,
                ttft=[0] * (len(LATENCY_BOUNDS_MS) + 1),
                itl=[0] * (len(ITL_BOUNDS_MS) + 1),
            )
        group.start = min(group.start, record.ended_at)
        group.end = max(group.end, record.ended_at)
        group.totals.add(record)
        group.input_squared += record.input_tokens**2
        group.output_squared += record.output_tokens**2
        if record.ttft_ms is not None:
            group.ttft[bisect.bisect_left(LATENCY_BOUNDS_MS, record.ttft_ms)] += 1
        if record.itl_ms is not None:
            group.itl[bisect.bisect_left(ITL_BOUNDS_MS, record.itl_ms)] += 1
    return tuple(
        _segment(group, gateway=gateway, sequence=sequence)
        for sequence, group in enumerate(groups.values(), start=first_sequence)
    )


def _segment(group: _Group, *, gateway: str, sequence: int) -> UsageSegment:
    first, totals = group.first, group.totals
    start = dt.datetime.fromtimestamp(group.start, dt.UTC)
    return UsageSegment(
        tenant_id=first.tenant_id,
        day=start.date(),
        gateway=gateway,
        sequence=sequence,
        key_id=first.key_id,
        project_id=first.project_id,
        endpoint_id=first.endpoint_id,
        revision_id=first.revision_id,
        model=first.model,
        slo_class=first.slo_class,
        region=first.region,
        outcome=first.outcome,
        window_start=start,
        window_end=dt.datetime.fromtimestamp(group.end, dt.UTC),
        requests=totals.requests,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cached_tokens=totals.cached_tokens,
        input_tokens_squared=group.input_squared,
        output_tokens_squared=group.output_squared,
        ttft_ms=without_empty_end(group.ttft),
        itl_ms=without_empty_end(group.itl),
        route_id=first.route_id,
    )


def without_empty_end(histogram: Sequence[float]) -> tuple[int, ...]:
    """Give the counts of a histogram up to its last that is not 0."""
    end = len(histogram)
    while end and not histogram[end - 1]:
        end -= 1
    return tuple(map(int, histogram[:end]))
