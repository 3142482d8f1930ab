"""Usage segments as a gateway ships them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import random
import uuid
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.contract import LATENCY_BOUNDS_MS, Outcome, UsageBatch, UsageSegment
from portal.demo import accounts

REQUESTS_EACH: Final = 5
WINDOW: Final = dt.timedelta(seconds=2)


@dataclasses.dataclass(frozen=True)
class Payer:
    """Whose usage it is."""

    tenant_id: str
    project_id: str


class Shipment:
    """Makes batches of new segments, by 50 keys over 20 endpoints, in order of sequence.

    ``name`` tells shipments of one gateway apart, as its data folders are.
    """

    def __init__(self, payer: Payer, *, name: str) -> None:
        self.gateway = f"{accounts.GATEWAY}/{name}"
        self._payer = payer
        self._sequence = itertools.count(1)
        self._rng = random.Random(name)
        self._keys = [str(uuid.UUID(int=self._rng.getrandbits(128))) for _ in range(50)]
        self._endpoints = [str(uuid.UUID(int=self._rng.getrandbits(128))) for _ in range(20)]

    def batch(self, count: int, *, at: dt.datetime, endpoints: list[str] | None = None) -> bytes:
        """Give the body of a POST of ``count`` segments that end at ``at``."""
        found = endpoints or self._endpoints
        segments = tuple(self._segment(at, self._rng.choice(found)) for _ in range(count))
        return msgspec.json.encode(UsageBatch(gateway=self.gateway, segments=segments))

    def days(self, count: int, *, per_day: int, endpoints: list[str], now: dt.datetime) -> Iterator[bytes]:
        """Give one batch for each of the last ``count`` days."""
        for day in range(count):
            yield self.batch(per_day, at=now - dt.timedelta(days=day), endpoints=endpoints)

    def _segment(self, at: dt.datetime, endpoint_id: str) -> UsageSegment:
        rng = self._rng
        histogram = [0] * (len(LATENCY_BOUNDS_MS) + 1)
        for _ in range(REQUESTS_EACH):
            histogram[rng.randint(4, 12)] += 1
        return UsageSegment(
            tenant_id=self._payer.tenant_id,
            day=at.date(),
            gateway=self.gateway,
            sequence=next(self._sequence),
            key_id=rng.choice(self._keys),
            project_id=self._payer.project_id,
            endpoint_id=endpoint_id,
            revision_id=endpoint_id,
            model="berth-docs-ngram",
            slo_class="standard",
            region=accounts.GATEWAY_REGION,
            outcome=Outcome.COMPLETED,
            window_start=max(at - WINDOW, at.replace(hour=0, minute=0, second=0, microsecond=0)),
            window_end=at,
            requests=REQUESTS_EACH,
            input_tokens=rng.randint(500, 5_000),
            output_tokens=rng.randint(100, 1_500),
            cached_tokens=rng.randint(0, 400),
            ttft_ms=tuple(histogram),
        )
