"""Admission in Prometheus' words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.admission.admission import QueueState


class AdmissionFigures(Collector):
    """Shows what ``state`` gives, by endpoint id, whenever metrics are read."""

    def __init__(self, state: Callable[[], Mapping[str, QueueState]]) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        """Give the names; labels come and go."""
        return self._families({})

    def collect(self) -> Iterable[Metric]:
        """Give today's values."""
        return self._families(self._state())

    def _families(self, states: Mapping[str, QueueState]) -> Iterable[Metric]:
        waiting = GaugeMetricFamily(
            "berth_gateway_queue_requests",
            "Requests that wait for a replica.",
            labels=("endpoint", "slo_class"),
        )
        oldest = GaugeMetricFamily(
            "berth_gateway_queue_oldest_seconds",
            "How long the oldest of them has waited.",
            labels=("endpoint",),
        )
        shed = CounterMetricFamily(
            "berth_gateway_shed",
            "Requests refused for want of room.",
            labels=("endpoint", "slo_class", "reason"),
        )
        limits = GaugeMetricFamily(
            "berth_gateway_concurrency_limit",
            "Most requests that a replica is given at once.",
            labels=("replica",),
        )
        pressure = CounterMetricFamily(
            "berth_gateway_kv_pressure",
            "Looks at a replica that found its KV cache nearly full.",
            labels=("endpoint",),
        )
        by_replica: dict[str, int] = {}
        for endpoint_id, state in states.items():
            oldest.add_metric((endpoint_id,), max(state.oldest_s.values(), default=0.0))
            pressure.add_metric((endpoint_id,), state.pressure)
            for slo_class, count in state.waiting.items():
                waiting.add_metric((endpoint_id, slo_class), count)
            for (slo_class, reason), count in state.shed.items():
                shed.add_metric((endpoint_id, slo_class, reason.value), count)
            by_replica |= state.limits
        for replica_id, limit in by_replica.items():
            limits.add_metric((replica_id,), limit)
        return (waiting, oldest, shed, limits, pressure)
