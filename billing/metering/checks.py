"""Why a usage segment cannot be taken.

A batch is looked at by the column first: nearly all batches are right as a whole, and a column is judged many times
faster than as many segments one by one. Only a batch with something wrong is looked at segment by segment.
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, UsageSegment

#: So far a clock may run ahead of ours.
AHEAD: Final = dt.timedelta(days=1)
BIGINT: Final = 2**63 - 1
#: More tokens than any segment has; millions of segments of as many have a sum that the rollups can hold.
MOST_TOKENS: Final = 10**12

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")
_LENGTHS = {"gateway": 64, "model": 80, "slo_class": 40, "region": 40}
_WORDS = operator.attrgetter(*_LENGTHS)
_INT: Final = 2**31 - 1
_ONE_DAY = dt.timedelta(days=1)


def is_uuid(text: str) -> bool:
    """Say whether ``text`` is a UUID as they are usually written."""
    return _UUID.match(text) is not None


class Check:
    """Judges segments of one batch.

    ``projects`` are pairs of tenant and project that exist, ``dropped`` days whose segments are gone although they
    are not older than ``retention_days``.
    """

    def __init__(
        self,
        *,
        gateway: str,
        projects: Collection[tuple[str, str]],
        now: dt.datetime,
        retention_days: int,
        dropped: Collection[dt.date] = (),
    ) -> None:
        self._gateway = gateway
        self._projects = projects
        self._retention = retention_days
        self._oldest = now.date() - dt.timedelta(days=retention_days)
        self._newest = now + AHEAD
        self._dropped = dropped

    def all_right(self, segments: Sequence[UsageSegment]) -> bool:
        """Say whether :meth:`complaint` has none about any of ``segments``; False also where that is not sure."""
        try:
            return (
                self._origins_right(segments)
                and self._times_right(segments)
                and _counts_right(segments)
                and not any(map(_of_words, set(map(_WORDS, segments))))
            )
        except (TypeError, OverflowError):  # moments with and without a zone, and a last day that has no next
            return False

    def complaint(self, segment: UsageSegment) -> str:
        """Give the reason for refusing, empty if there is none."""
        return (
            self._of_origin(segment)
            or self._of_time(segment)
            or _of_counts(segment)
            or _of_words(_WORDS(segment))
        )

    def _origins_right(self, segments: Sequence[UsageSegment]) -> bool:
        sequences = [each.sequence for each in segments]
        ids = {each.key_id for each in segments}
        ids |= {each.endpoint_id or None for each in segments} | {each.revision_id for each in segments}
        ids |= {each.route_id for each in segments}
        return (
            {each.gateway for each in segments} == {self._gateway}
            and {(each.tenant_id, each.project_id) for each in segments} <= set(self._projects)
            and all(map(is_uuid, ids - {None}))
            and min(sequences) >= 0
            and max(sequences) <= BIGINT
        )

    def _times_right(self, segments: Sequence[UsageSegment]) -> bool:
        days = {each.day for each in segments}
        if len(days) != 1:
            return not any(map(self._of_time, segments))
        (day,) = days
        starts = [each.window_start for each in segments]
        ends = [each.window_end for each in segments]
        midnight = _midnight(day)
        return (
            None not in {each.tzinfo for each in starts}
            and all(map(operator.le, starts, ends))
            and midnight <= min(ends)
            and max(ends) <= min(midnight + _ONE_DAY, self._newest)
            and day >= self._oldest
            and day not in self._dropped
        )

    def _of_origin(self, segment: UsageSegment) -> str:
        if segment.gateway != self._gateway:
            return f"the segment is of gateway {segment.gateway!r}, the batch of {self._gateway!r}"
        if (segment.tenant_id, segment.project_id) not in self._projects:
            return f"there is no tenant {segment.tenant_id!r} with a project {segment.project_id!r}"
        for found in (segment.key_id, segment.endpoint_id or None, segment.revision_id, segment.route_id):
            if found is not None and not is_uuid(found):
                return f"{found!r} is not a UUID"
        if not 0 <= segment.sequence <= BIGINT:
            return f"the sequence {segment.sequence} is not within 0 and {BIGINT}"
        return ""

    def _of_time(self, segment: UsageSegment) -> str:
        start, end, day = segment.window_start, segment.window_end, segment.day
        if start.tzinfo is None or end.tzinfo is None:
            return "the window needs a time zone"
        if end < start:
            return "the window ends before it starts"
        if end > self._newest:
            return f"the window ends at {end.isoformat()}, more than a day ahead of this clock"
        # A window that is closed at midnight still belongs to the day it closes.
        if not dt.timedelta() <= end - _midnight(day) <= _ONE_DAY:
            return f"the day {day} is not the UTC day of the window's end, {end.isoformat()}"
        if day < self._oldest:
            return f"arrived after its day was dropped: {day} is more than {self._retention} days ago"
        if day in self._dropped:
            return f"arrived after its day was dropped: {day} is not kept any more"
        return ""


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _counts_right(segments: Sequence[UsageSegment]) -> bool:
    def column(name: str) -> list[int]:
        return list(map(operator.attrgetter(name), segments))

    requests, cached = column("requests"), column("cached_tokens")
    inputs, inputs_squared = column("input_tokens"), column("input_tokens_squared")
    outputs, outputs_squared = column("output_tokens"), column("output_tokens_squared")
    ttft, itl = (list(map(operator.attrgetter(name), segments)) for name in ("ttft_ms", "itl_ms"))
    tokens, squares = (inputs, outputs, cached), (inputs_squared, outputs_squared)
    return (
        min(requests) >= 0
        and max(requests) <= _INT
        and min(map(min, tokens + squares)) >= 0
        and max(map(max, tokens)) <= MOST_TOKENS
        and max(map(max, squares)) <= BIGINT
        and all(map(operator.le, cached, inputs))
        and _buckets_right(ttft, len(LATENCY_BOUNDS_MS) + 1)
        and _buckets_right(itl, len(ITL_BOUNDS_MS) + 1)
        and _squares_right(requests, inputs, inputs_squared)
        and _squares_right(requests, outputs, outputs_squared)
    )


def _buckets_right(histograms: Iterable[tuple[int, ...]], most: int) -> bool:
    filled = list(filter(None, set(histograms)))
    return not filled or (
        max(map(len, filled)) <= most and min(map(min, filled)) >= 0 and max(map(max, filled)) <= _INT
    )


def _squares_right(requests: Sequence[int], tokens: Sequence[int], squares: Sequence[int]) -> bool:
    squared = list(map(operator.mul, tokens, tokens))
    most: Callable[[int, int], bool] = operator.le
    return all(map(most, squared, map(operator.mul, requests, squares))) and all(map(most, squares, squared))


def _of_counts(segment: UsageSegment) -> str:
    tokens_in, squares_in = segment.input_tokens, segment.input_tokens_squared
    tokens_out, squares_out = segment.output_tokens, segment.output_tokens_squared
    tokens, squares = (tokens_in, tokens_out, segment.cached_tokens), (squares_in, squares_out)
    counts = (segment.requests, *segment.ttft_ms, *segment.itl_ms)
    if min(tokens + squares) < 0 or min(counts) < 0:
        return "a count is negative"
    if max(counts) > _INT or max(tokens) > MOST_TOKENS or max(squares) > BIGINT:
        return "a count is too large to be one segment's"
    if segment.cached_tokens > tokens_in:
        return "more input tokens were cached than there were"
    return (
        _of_histogram("ttft_ms", segment.ttft_ms, LATENCY_BOUNDS_MS)
        or _of_histogram("itl_ms", segment.itl_ms, ITL_BOUNDS_MS)
        or _of_squares("input", segment.requests, tokens_in, squares_in)
        or _of_squares("output", segment.requests, tokens_out, squares_out)
    )


def _of_words(words: tuple[str, ...]) -> str:
    for (name, longest), word in zip(_LENGTHS.items(), words, strict=True):
        if len(word) > longest or not word.isprintable():
            return f"{name} is longer than {longest} characters or not printable"
    return ""


def _of_histogram(name: str, buckets: tuple[int, ...], bounds: tuple[float, ...]) -> str:
    if len(buckets) > len(bounds) + 1:
        return f"the histogram {name} has {len(buckets)} buckets, at most {len(bounds) + 1} are known"
    return ""


def _of_squares(kind: str, requests: int, tokens: int, squares: int) -> str:
    # They are least where all requests are of one length, and most where one has all the tokens.
    if tokens * tokens <= requests * squares and squares <= tokens * tokens:
        return ""
    return f"the squares of {tokens} {kind} tokens of {requests} requests cannot sum to {squares}"
