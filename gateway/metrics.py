"""What the gateway tells Prometheus. Labels hold ids and classes only, never names that people chose."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS
from gateway.metering.records import UsageRecord

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("endpoint", "slo_class")
        requests = Counter(
            "berth_gateway_requests", "Requests of known keys by outcome.", (*labels, "outcome"),
            registry=self._registry,
        )  # fmt: skip
        tokens = Counter(
            "berth_gateway_tokens", "Tokens by kind.", (*labels, "kind"), registry=self._registry
        )
        ttft = Histogram(
            "berth_gateway_ttft_seconds", "Seconds until the first token.", labels,
            buckets=[bound / 1000 for bound in LATENCY_BOUNDS_MS], registry=self._registry,
        )  # fmt: skip
        itl = Histogram(
            "berth_gateway_itl_seconds", "Mean seconds between the tokens of a request.", labels,
            buckets=[bound / 1000 for bound in ITL_BOUNDS_MS], registry=self._registry,
        )  # fmt: skip
        # Children are kept, because finding one costs more than counting.
        self._requests = lru_cache(maxsize=4096)(requests.labels)
        self._tokens = lru_cache(maxsize=4096)(tokens.labels)
        self._ttft = lru_cache(maxsize=4096)(ttft.labels)
        self._itl = lru_cache(maxsize=4096)(itl.labels)
        # An autoscaler reads it: an engine's own gauges end with its last pod, the gateway's go on.
        in_flight = Gauge(
            "berth_gateway_endpoint_in_flight", "Requests of an endpoint now in progress.", ("endpoint",),
            registry=self._registry,
        )  # fmt: skip
        self.endpoint_in_flight = lru_cache(maxsize=4096)(in_flight.labels)
        budget_refusals = Counter(
            "berth_gateway_budget_refusals", "Requests that a budget did not let in.", ("code",),
            registry=self._registry,
        )  # fmt: skip
        self.budget_refusals = lru_cache(maxsize=16)(budget_refusals.labels)
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

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Show ``value()`` as a gauge whenever metrics are read."""
        Gauge(f"berth_gateway_{name}", help_text, registry=self._registry).set_function(value)

    def add(self, collector: Collector) -> None:
        """Show what ``collector`` gives whenever metrics are read."""
        self._registry.register(collector)

    def count(self, record: UsageRecord) -> None:
        """Count one finished request."""
        labels = (record.endpoint_id, record.slo_class)
        self._requests(*labels, record.outcome.value).inc()
        if record.input_tokens or record.output_tokens:
            self._tokens(*labels, "input").inc(record.input_tokens)
            self._tokens(*labels, "output").inc(record.output_tokens)
            self._tokens(*labels, "cached").inc(record.cached_tokens)
        if record.ttft_ms is not None:
            self._ttft(*labels).observe(record.ttft_ms / 1000)
        if record.itl_ms is not None:
            self._itl(*labels).observe(record.itl_ms / 1000)

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
