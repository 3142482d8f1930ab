"""What was used: segments that flow up, and the receipt for them."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Final

import msgspec

from gateway.contract.base import Message

USAGE_PATH: Final = "/api/gateway/v1/usage"

#: Of so many days a gateway tells its log's totals.
MOST_DAYS: Final = 4

#: Upper bounds in milliseconds of the histogram of times to first token; one more bucket holds what is above.
LATENCY_BOUNDS_MS: Final = (
    5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 500, 750,
    1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000,
)  # fmt: skip
#: The same of times between tokens, finest where the targets of classes are.
ITL_BOUNDS_MS: Final = (
    2, 4, 6, 8, 10, 12.5, 15, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 300, 500, 1_000,
)  # fmt: skip


class Outcome(enum.StrEnum):
    """How one request ended."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"  # the client left before the last byte
    FAILED = "failed"  # the engine failed or could not be reached, or the endpoint was down
    REFUSED = "refused"  # turned away before any engine was asked


# Without the garbage collector, which they never need, a batch is read in half the time.
class UsageSegment(Message, frozen=True, gc=False):
    """What a few seconds of requests used, for one key, endpoint, class, revision, outcome and UTC minute.

    ``sequence`` counts the segments of one gateway from 1 without gaps and never returns; together
    with ``tenant_id``, ``day``, ``gateway`` and ``key_id`` it is the segment's identity, so that
    sending one again is always safe. ``gateway`` is the gateway's name, a slash, and the instance of
    its data folder: a gateway that lost its folder counts from 1 again, under another instance.
    ``endpoint_id``, ``model`` and ``slo_class`` are empty for refused requests that named no endpoint
    of their key's. ``day`` is the UTC day in which the requests ended and never changes.
    ``input_tokens_squared`` and ``output_tokens_squared`` sum the squares of each request's tokens, from
    which the spread of lengths follows. ``ttft_ms`` counts requests per bucket of
    :data:`LATENCY_BOUNDS_MS`, ``itl_ms`` per bucket of :data:`ITL_BOUNDS_MS` by the mean time between
    their tokens; there is one more bucket than bounds, and empty ones at the end are left out. Requests
    that gave no token are in no bucket of the former, those whose tokens all came at once in none of the
    latter. ``route_id`` is the named route by which the requests came to the endpoint, None for its own name.
    """

    tenant_id: str
    day: dt.date
    gateway: str
    sequence: int
    key_id: str
    project_id: str
    endpoint_id: str
    revision_id: str | None
    model: str
    slo_class: str
    region: str
    outcome: Outcome
    window_start: dt.datetime
    window_end: dt.datetime
    requests: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    input_tokens_squared: int
    output_tokens_squared: int
    ttft_ms: tuple[int, ...] = ()
    itl_ms: tuple[int, ...] = ()
    route_id: str | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class DayTotals(Message, frozen=True):
    """What a gateway's own log holds of one UTC day, by the records themselves, as far as it was cut."""

    day: dt.date
    requests: _Count
    input_tokens: _Count
    output_tokens: _Count
    cached_tokens: _Count


class UsageBatch(Message, frozen=True):
    """One POST of segments, in order of sequence, all of the same ``gateway``.

    ``days`` are the totals of the gateway's log for the last days in which it served, up to the last of these
    segments: with them the control plane can tell whether what was logged has come.
    """

    gateway: str
    segments: tuple[UsageSegment, ...]
    days: Annotated[tuple[DayTotals, ...], msgspec.Meta(max_length=MOST_DAYS)] = ()


class Refused(Message, frozen=True):
    """A segment that was not taken, and why; sending it again will not help."""

    sequence: int
    reason: str


class UsageReceipt(Message, frozen=True):
    """The answer to a batch: every segment is inserted, a duplicate, or refused."""

    inserted: int
    duplicates: int
    refused: tuple[Refused, ...] = ()
