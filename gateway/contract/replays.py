"""What a report of ``python -m gateway.replay`` tells the control plane: one target's figures under one load."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

import msgspec

REPLAY_SCHEMA: Final = "berth.replay/1"

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Sum = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # beyond that JSON's readers round
_Time = Annotated[float, msgspec.Meta(gt=0, le=1e7)]
_Number = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class ReplayedTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One target's figures; times are milliseconds, None where nothing was measured. The report has more."""

    target: Annotated[str, msgspec.Meta(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f]+$")]
    speed: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    began_at: Annotated[dt.datetime, msgspec.Meta(tz=True)]
    requests: _Count
    requests_by_minute: Annotated[list[_Count], msgspec.Meta(max_length=100_000)]
    completed: _Count
    failed_percent: _Number | None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=1e7)]
    requests_per_s: _Number | None
    mean_in_flight: _Number | None
    input_tokens: _Sum
    cached_tokens: _Sum
    mean_input_tokens: _Number | None
    mean_output_tokens: _Number | None
    input_cv: _Number | None
    output_cv: _Number | None
    output_tokens_per_s: _Number | None
    ttft_mean_ms: _Time | None
    ttft_p50_ms: _Time | None
    ttft_p95_ms: _Time | None
    ttft_p99_ms: _Time | None
    itl_mean_ms: _Time | None
    itl_p50_ms: _Time | None
    itl_p95_ms: _Time | None
    itl_p99_ms: _Time | None
    kept_up: bool
    gpus: _Number | None = None


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report with the figures of its targets, at each speed that was tried."""

    schema: str
    targets: Annotated[list[ReplayedTarget], msgspec.Meta(min_length=1, max_length=100)]
