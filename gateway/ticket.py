"""The meter's hold on one request: whatever happens to it, one usage record is written, once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.contract import Endpoint, Key, Outcome
from gateway.engines.base import Delta
from gateway.gates import Permit
from gateway.metering.records import UsageRecord
from gateway.replies import Usage
from gateway.routing import Target
from gateway.timing import Timing

if TYPE_CHECKING:
    from gateway.tracing import Trace

_log = logging.getLogger(__name__)


class Ticket:
    """Opened as soon as a request's key is known. ``write`` makes the record safe; see ``Meter.append``."""

    def __init__(
        self, *, request_id: str, key: Key, region: str, write: Callable[[UsageRecord], None]
    ) -> None:
        self.endpoint: Endpoint | None = None
        self.slo_class = ""
        self.route_id: str | None = None
        self.permits: list[Permit] = []
        self.target: Target | None = None
        self.usage = Usage()
        self.timing = Timing()
        self.trace: Trace | None = None
        self.record: UsageRecord | None = None  # once it is written
        self._request_id = request_id
        self._key = key
        self._region = region
        self._write = write
        self._first_token: float | None = None
        self._last_token = 0.0
        self._first_tokens = 0  # that came together first
        self._closed = False

    @property
    def first_token_at(self) -> float | None:
        """When the first token came, in seconds of ``time.perf_counter``; None if none did."""
        return self._first_token

    def count(self, deltas: Sequence[Delta]) -> None:
        """Count what one read brought of the answer; the input's counts replace those before."""
        usage = self.usage
        before, text = usage.output_tokens, False
        for delta in deltas:
            usage.output_tokens += delta.output_tokens
            usage.input_tokens = delta.input_tokens
            usage.cached_tokens = delta.cached_tokens
            text = text or bool(delta.text)
        if text or usage.output_tokens != before:
            self._last_token = time.perf_counter()
            if self._first_token is None:
                self._first_token = self._last_token
                self._first_tokens = max(usage.output_tokens, 1)

    def close(self, outcome: Outcome, *, status: int = 200, code: str = "") -> None:
        """Write the record unless it is written. ``code`` is what the client is told of a failure.

        Raises:
            OSError: it could not be made safe, so that the request must not be seen to succeed.
        """
        if self._closed:
            return
        self._closed = True
        charges: dict[str, str] = {}
        for permit in reversed(self.permits):
            charges |= permit.settle(self.usage)
        record = self._record(outcome, status, code, charges)
        self._write(record)
        self.record = record

    def withdraw(self) -> None:
        """Give back what gates let in: the request goes to another endpoint."""
        while self.permits:
            self.permits.pop().withdraw()

    def close_quietly(self, outcome: Outcome, *, status: int, code: str = "") -> None:
        """Write the record of a request that is failing anyway; a log that cannot be written is logged."""
        try:
            self.close(outcome, status=status, code=code)
        except OSError:
            _log.exception("request %s: its usage record could not be written", self._request_id)

    def _record(self, outcome: Outcome, status: int, code: str, charges: dict[str, str]) -> UsageRecord:
        endpoint, target, key, usage = self.endpoint, self.target, self._key, self.usage
        timing, first, now = self.timing, self._first_token, time.perf_counter()
        asked, admitted, queued_s = timing.asked_at, timing.admitted_at, timing.queued_s(now)
        return UsageRecord(
            request_id=self._request_id,
            ended_at=time.time(),
            tenant_id=key.tenant_id,
            project_id=key.project_id,
            key_id=key.key_id,
            outcome=outcome,
            status=status,
            region=target.replica.region if target else self._region,
            endpoint_id=endpoint.endpoint_id if endpoint else "",
            model=endpoint.model if endpoint else "",
            slo_class=self.slo_class,
            revision_id=target.revision_id if target else None,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            ttft_ms=None if first is None else _ms(first - timing.started),
            itl_ms=self._itl_ms(),
            duration_ms=_ms(now - timing.started),
            route_id=self.route_id,
            charges=charges,
            code=code,
            own_ms=None if asked is None else _ms(asked - timing.started),
            queue_ms=None if queued_s is None else _ms(queued_s),
            prefill_ms=None if first is None or admitted is None else _ms(first - admitted),
            decode_ms=None if first is None else _ms(self._last_token - first),
            retries=max(0, timing.places - 1),
        )

    def _itl_ms(self) -> float | None:
        # Tokens that came together first say nothing of the time between tokens: it is shared by the rest.
        later = self.usage.output_tokens - self._first_tokens
        if self._first_token is None or self._last_token == self._first_token or later < 1:
            return None
        return round((self._last_token - self._first_token) * 1000 / later, 3)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
