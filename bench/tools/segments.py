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

from gateway.contract import Outcome, UsageBatch, UsageSegment
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
        prompts = [rng.randint(100, 1_000) for _ in range(REQUESTS_EACH)]
        answers = [rng.randint(20, 300) for _ in range(REQUESTS_EACH)]
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
            input_tokens=sum(prompts),
            output_tokens=sum(answers),
            cached_tokens=rng.randint(0, 400),
            input_tokens_squared=sum(tokens**2 for tokens in prompts),
            output_tokens_squared=sum(tokens**2 for tokens in answers),
            ttft_ms=_histogram([rng.randint(4, 12) for _ in range(REQUESTS_EACH)]),
            itl_ms=_histogram([rng.randint(6, 13) for _ in range(REQUESTS_EACH)]),
        )


def _histogram(places: list[int]) -> tuple[int, ...]:
    return tuple(places.count(place) for place in range(max(places) + 1))
