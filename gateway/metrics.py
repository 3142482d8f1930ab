"""What the gateway tells Prometheus. Labels hold ids, classes and codes only, never names that people chose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.metering.records import UsageRecord
from gateway.tallies import Distribution, Level, Tallies, Tally

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LABELS: Final = ("endpoint", "slo_class")
_HISTOGRAMS: Final[Mapping[str, str]] = {
    "ttft": "Seconds until the first token.",
    "itl": "Mean seconds between the tokens of a request.",
    "queue": "Seconds that a request waited for a place at a replica.",
    "prefill": "Seconds from a request's place at a replica to its first token.",
    "decode": "Seconds from a request's first token to its last.",
    "own": "Seconds of the gateway itself: from a known key to asking for a place, the body's arrival included.",
}


class _Total(Collector):
    def __init__(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        self._name = name
        self._help_text = help_text
        self._value = value

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._help_text, value=self._value())


class Metrics:
    """One process's metrics, in a registry of their own. With ``counting`` off no request is counted.

    Requests are added up in :class:`Tallies` and written out only when somebody reads, because the client
    library's own counters and histograms cost several times as much for each request.
    """

    def __init__(self, *, counting: bool = True) -> None:
        self.counting = counting
        self.tallies = Tallies()
        self._registry = CollectorRegistry()
        budget_refusals = Counter(
            "berth_gateway_budget_refusals", "Requests that a budget did not let in.", ("code",),
            registry=self._registry,
        )  # fmt: skip
        self.budget_refusals = lru_cache(maxsize=16)(budget_refusals.labels)
        self._registry.register(_Requests(self.tallies))
        self.files = Gauge(
            "berth_gateway_files", "Files of all tenants in the files folder.", registry=self._registry
        )
        self.files_bytes = Gauge(
            "berth_gateway_files_bytes", "Bytes of those files, decrypted.", registry=self._registry
        )
        self.batches = Gauge(
            "berth_gateway_batches", "Batches in the files folder by state.", ("state",),
            registry=self._registry,
        ).labels  # fmt: skip
        self.batch_lines = Counter(
            "berth_gateway_batch_lines", "Lines of batches by what came of them here.", ("outcome",),
            registry=self._registry,
        ).labels  # fmt: skip
        for_endpoint = ("endpoint",)
        retries = Counter(
            "berth_gateway_retries", "Further attempts of requests.", for_endpoint, registry=self._registry
        )
        self.retries = lru_cache(maxsize=4096)(retries.labels)
        retries_refused = Counter(
            "berth_gateway_retries_refused", "Attempts that the retry budget did not allow.", for_endpoint,
            registry=self._registry,
        )  # fmt: skip
        self.retries_refused = lru_cache(maxsize=4096)(retries_refused.labels)
        moved = Counter(
            "berth_gateway_moved", "Requests that left their full revision or replica rather than be refused.",
            for_endpoint, registry=self._registry,
        )  # fmt: skip
        self.moved = lru_cache(maxsize=4096)(moved.labels)
        fallbacks = Counter(
            "berth_gateway_fallbacks", "Requests that another endpoint answered.", ("endpoint", "fallback"),
            registry=self._registry,
        )  # fmt: skip
        self.fallbacks = lru_cache(maxsize=4096)(fallbacks.labels)
        shortened = Counter(
            "berth_gateway_shortened", "Requests let in with a shorter context for want of room.", for_endpoint,
            registry=self._registry,
        )  # fmt: skip
        self.shortened = lru_cache(maxsize=4096)(shortened.labels)
        self.unauthenticated = Counter(
            "berth_gateway_unauthenticated", "Requests without a known key.", registry=self._registry
        )
        self.rate_limited = lru_cache(maxsize=16)(
            Counter(
                "berth_gateway_rate_limited", "Requests refused by a rate limit.", ("owner", "unit"),
                registry=self._registry,
            ).labels
        )  # fmt: skip
        self.in_flight = Gauge(
            "berth_gateway_in_flight", "Generating requests now in progress.", registry=self._registry
        )

    def endpoint_in_flight(self, endpoint_id: str) -> Level:
        """Give the number of requests of one endpoint in progress."""
        # An autoscaler reads it: an engine's own gauges end with its last pod, the gateway's go on.
        return self.tallies.level(endpoint_id)

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Show ``value()`` as a gauge whenever metrics are read."""
        Gauge(f"berth_gateway_{name}", help_text, registry=self._registry).set_function(value)

    def watch_total(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Show ``value()``, which only grows, as a counter whenever metrics are read."""
        self._registry.register(_Total(f"berth_gateway_{name}", help_text, value))

    def add(self, collector: Collector) -> None:
        """Show what ``collector`` gives whenever metrics are read."""
        self._registry.register(collector)

    def count(self, record: UsageRecord) -> None:
        """Count one finished request."""
        if self.counting:
            self.tallies.add(record)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Requests(Collector):
    """Writes out tallies."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def describe(self) -> Iterable[Metric]:
        return _Families().all()

    def collect(self) -> Iterator[Metric]:
        families = _Families()
        for endpoint_id, by_class in self._tallies.by_endpoint.items():
            for slo_class, tally in by_class.items():
                families.add((endpoint_id, slo_class), tally)
        for endpoint_id, level in self._tallies.in_flight.items():
            families.in_flight.add_metric((endpoint_id,), level.value)
        yield from families.all()


class _Families:
    """The metrics of requests, empty at first."""

    def __init__(self) -> None:
        self.requests = CounterMetricFamily(
            "berth_gateway_requests", "Requests of known keys by outcome.", labels=(*_LABELS, "outcome")
        )
        self.refusals = CounterMetricFamily(
            "berth_gateway_refusals",
            "Requests of known keys that were refused or failed, by the code that the client was given.",
            labels=(*_LABELS, "code"),
        )
        self.tokens = CounterMetricFamily(
            "berth_gateway_tokens", "Tokens by kind.", labels=(*_LABELS, "kind")
        )
        self.late = {
            "ttft": CounterMetricFamily(
                "berth_gateway_ttft_late",
                "Requests whose first token came later than their class's target.",
                labels=_LABELS,
            ),
            "itl": CounterMetricFamily(
                "berth_gateway_itl_late",
                "Requests whose tokens came further apart than their class's target.",
                labels=_LABELS,
            ),
        }
        self.in_flight = GaugeMetricFamily(
            "berth_gateway_endpoint_in_flight",
            "Requests of an endpoint now in progress.",
            labels=("endpoint",),
        )
        self.histograms = {
            name: HistogramMetricFamily(f"berth_gateway_{name}_seconds", help_text, labels=_LABELS)
            for name, help_text in _HISTOGRAMS.items()
        }

    def all(self) -> Iterable[Metric]:
        """Give them in the order in which they are shown."""
        yield from (self.requests, self.refusals, self.tokens, self.in_flight)
        yield from self.late.values()
        yield from self.histograms.values()

    def add(self, labels: tuple[str, str], tally: Tally) -> None:
        """Add one tally."""
        for outcome, count in tally.outcomes.items():
            if count:
                self.requests.add_metric((*labels, outcome.value), count)
        for code, count in tally.codes.items():
            self.refusals.add_metric((*labels, code), count)
        for kind in ("input", "output", "cached"):
            self.tokens.add_metric((*labels, kind), getattr(tally, f"{kind}_tokens"))
        for name, late in self.late.items():
            if math.isfinite(getattr(tally, f"{name}_target")):
                late.add_metric(labels, getattr(tally, f"{name}_late"))
        for name, family in self.histograms.items():
            _add(family, labels, getattr(tally, name))


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], values: Distribution) -> None:
    bounds = [repr(bound / 1000) for bound in values.bounds] + ["+Inf"]
    family.add_metric(
        labels, list(zip(bounds, itertools.accumulate(values.counts), strict=True)), values.sum / 1000
    )
