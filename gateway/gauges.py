"""What the process itself shows of its state whenever its metrics are read."""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.freshness import Freshness
from gateway.metering.meter import Meter
from gateway.metrics import Metrics
from gateway.replicas import ReplicaBook
from gateway.snapshots import SnapshotKeeper
from gateway.tracing import Tracer


def watch_process(
    metrics: Metrics,
    *,
    keeper: SnapshotKeeper,
    meter: Meter,
    freshness: Freshness,
    tracer: Tracer | None,
    limits_shared: Callable[[], bool],
    book: ReplicaBook,
) -> None:
    """Show the spool, the usage log, how fresh the snapshot is, whether limits are shared, and failing replicas."""

    def tenants_refused() -> int:
        directory = keeper.directory
        return sum(map(freshness.refuses, directory.tenants())) if directory else 0

    metrics.watch(
        "spool_segments", "Usage segments not yet acknowledged.", lambda: meter.spool.segments_pending
    )
    metrics.watch(
        "usage_log_writable", "1 while usage records can be written, else 0.", lambda: meter.writable
    )
    metrics.watch(
        "control_plane_contact_age_seconds",
        "Seconds since the control plane last answered; NaN if it never did.",
        lambda: _or_nan(keeper.contact_age_s()),
    )
    metrics.watch(
        "snapshot_age_seconds",
        "Seconds since the snapshot in use came; NaN while there is none.",
        lambda: _or_nan(keeper.snapshot_age_s()),
    )
    metrics.watch(
        "tenants_refused",
        "Tenants that chose to be refused by a gateway that is cut off for as long as this one.",
        tenants_refused,
    )
    metrics.watch(
        "limits_shared",
        "1 while rate limits are counted together with other gateways, 0 while by this one alone.",
        limits_shared,
    )
    metrics.watch_total(
        "circuits_opened",
        "Times that a replica was left alone because it failed again and again, since the start.",
        lambda: book.opened,
    )
    metrics.watch_total(
        "replicas_ejected",
        "Times that a replica was ejected because it did worse than its peers, since the start.",
        lambda: book.ejected,
    )
    if tracer is not None:
        metrics.watch_total(
            "untraced_requests",
            "Requests whose spans could not be exported since the process began.",
            lambda: tracer.dropped,
        )


def _or_nan(age_s: float | None) -> float:
    return math.nan if age_s is None else age_s
