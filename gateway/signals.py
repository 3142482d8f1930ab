"""Tells the control plane how endpoints stand here: what waits and runs now, and the last minute's requests."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import add, sub
from typing import Final

import aiohttp

from gateway.admission import QueueState
from gateway.contract import (
    ITL_BOUNDS_MS,
    LATENCY_BOUNDS_MS,
    MOST_SIGNALLED_CLASSES,
    MOST_SIGNALS,
    SIGNAL_STALE_S,
    SIGNAL_WINDOW_S,
    SIGNALS_PATH,
    EndpointSignal,
    EndpointSignals,
    Outcome,
    SloClass,
)
from gateway.metering.records import without_empty_end
from gateway.tallies import Tallies, Tally
from gateway.telling import tell

#: A signal that still holds is told again before the control plane takes it for stale.
_AGAIN_S: Final = SIGNAL_STALE_S / 3
_TTFT: Final = len(LATENCY_BOUNDS_MS) + 1
_ITL: Final = len(ITL_BOUNDS_MS) + 1
#: Endpoints that are worked out before others get their turn in the event loop.
_AT_ONCE: Final = 50

_Numbers = tuple[float, ...]
_ZEROS: Final[_Numbers] = (0.0,) * (12 + _TTFT + _ITL)
_NO_TTFT: Final = (0,) * _TTFT
_NO_ITL: Final = (0,) * _ITL


class _Window:
    """One endpoint's sums since the process began, as they were at each look of the last minute."""

    def __init__(self, own: str) -> None:
        self.own = own  # the class whose requests its own numbers are of
        self._looks: deque[tuple[float, _Numbers]] = deque()

    def look(self, now: float, numbers: _Numbers) -> _Numbers:
        """Note the sums of now; gives by how much they grew within the window."""
        looks = self._looks
        if not looks:
            looks.append((-math.inf, _ZEROS))
        if numbers != looks[-1][1]:
            looks.append((now, numbers))
        while len(looks) > 1 and looks[1][0] <= now - SIGNAL_WINDOW_S:
            looks.popleft()
        return tuple(map(sub, numbers, looks[0][1]))

    def restart(self, own: str, numbers: _Numbers) -> None:
        """Begin anew at ``numbers``, which are of another class from now on."""
        self.own = own
        self._looks = deque([(-math.inf, numbers)])


class Signaller:
    """Tells every ``interval_s`` seconds about endpoints whose signal has changed, or would become stale.

    ``queues`` gives what waits now by endpoint, ``tried_again`` what each revision of one failed, ``class_of`` an
    endpoint's own class, None where it is not known here: all its requests then count as of that. ``session`` carries
    the gateway's token; ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        *,
        tallies: Tallies,
        queues: Callable[[], Mapping[str, QueueState]],
        tried_again: Callable[[str], Mapping[str, int]],
        class_of: Callable[[str], SloClass | None],
        identity: str,
        session: aiohttp.ClientSession,
        control_plane_url: str,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tallies = tallies
        self._queues = queues
        self._tried_again = tried_again
        self._class_of = class_of
        self._identity = identity
        self._session = session
        self._url = control_plane_url + SIGNALS_PATH
        self._interval_s = interval_s
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._told: dict[str, tuple[float, EndpointSignal]] = {}

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            # Gateways that started together must not all write together.
            await asyncio.sleep(self._interval_s * random.uniform(0.9, 1.1))  # noqa: S311
            signals = []
            for number, signal in enumerate(self.news(), start=1):
                signals.append(signal)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            for start in range(0, len(signals), MOST_SIGNALS):
                part = signals[start : start + MOST_SIGNALS]
                if await self._send(part):
                    self.told(part)

    def told(self, signals: Iterable[EndpointSignal]) -> None:
        """Note that the control plane took ``signals``."""
        now = self._clock()
        self._told.update((signal.endpoint_id, (now, signal)) for signal in signals)

    def news(self) -> Iterable[EndpointSignal]:
        """Give the signals to tell now."""
        queues = self._queues()
        waiting = {endpoint_id for endpoint_id, queue in queues.items() if queue.waiting}
        endpoints = self._tallies.by_endpoint.keys() | self._tallies.in_flight.keys() | waiting
        for gone in self._windows.keys() - self._tallies.by_endpoint.keys():
            del self._windows[gone]
        for endpoint_id in (endpoints | self._told.keys()) - {""}:
            signal = self._signal(endpoint_id, queues.get(endpoint_id))
            nothing = EndpointSignal(endpoint_id=endpoint_id)
            told_at, told = self._told.get(endpoint_id, (0.0, nothing))
            if signal == told == nothing:
                self._told.pop(endpoint_id, None)  # silence says the same from now on
            elif signal != told or self._clock() - told_at >= _AGAIN_S:
                yield signal

    def _signal(self, endpoint_id: str, queue: QueueState | None) -> EndpointSignal:
        level = self._tallies.in_flight.get(endpoint_id)
        by_class = self._tallies.by_endpoint.get(endpoint_id)
        slo_class = self._class_of(endpoint_id)
        own = slo_class.name if slo_class else ""
        if by_class is None:
            grown = _ZEROS
        else:
            sums = _sums(by_class, own, queue.pressure if queue else 0)
            window = self._windows.setdefault(endpoint_id, _Window(own))
            if window.own != own:
                window.restart(own, sums)
            grown = window.look(self._clock(), sums)
        counts, seconds, buckets = grown[:9], grown[9:12], grown[12:]
        requests, shed, refused, failed, tokens_in, tokens_out, cached, prefills, pressure = map(int, counts)
        queue_s, prefill_s, decode_s = (round(each, 3) for each in seconds)
        return EndpointSignal(
            endpoint_id=endpoint_id,
            in_flight=level.value if level else 0,
            queued=dict(sorted(queue.waiting.items())[:MOST_SIGNALLED_CLASSES]) if queue else {},
            oldest_wait_s=round(_oldest(queue, slo_class), 1) if queue else 0.0,
            requests=requests,
            shed=shed,
            refused=refused,
            failed=failed,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cached_tokens=cached,
            ttft_ms=without_empty_end(buckets[:_TTFT]),
            itl_ms=without_empty_end(buckets[_TTFT:]),
            queue_s=queue_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefills=prefills,
            kv_pressure=pressure,
            tried_again=dict(self._tried_again(endpoint_id)),
        )

    async def _send(self, signals: list[EndpointSignal]) -> bool:
        message = EndpointSignals(gateway=self._identity, signals=tuple(signals))
        return await tell(self._session, self._url, message, what="signals")


def _oldest(queue: QueueState, slo_class: SloClass | None) -> float:
    if slo_class is None:
        return max(queue.oldest_s.values(), default=0.0)
    return queue.oldest_s.get(slo_class.priority, 0.0)


def _sums(tallies: Mapping[str, Tally], own: str, pressure: int) -> _Numbers:
    """Add up the classes of an endpoint: counts, then seconds, then the buckets of both histograms.

    What is shed and the histograms are of the class ``own`` alone, of all without one: a lower class may wait longer.
    """
    total: _Numbers = (*_ZEROS[:8], float(pressure), *_ZEROS[9:])
    for name, tally in tallies.items():
        judged = own in (name, "")
        numbers = chain(
            (
                sum(tally.outcomes.values()), tally.shed if judged else 0, tally.refused,
                tally.outcomes[Outcome.FAILED], tally.input_tokens, tally.output_tokens, tally.cached_tokens,
                sum(tally.prefill.counts), 0, tally.queue.sum / 1000, tally.prefill.sum / 1000,
                tally.decode.sum / 1000,
            ),
            tally.ttft.counts if judged else _NO_TTFT,
            tally.itl.counts if judged else _NO_ITL,
        )  # fmt: skip
        total = tuple(map(add, total, numbers))
    return total
