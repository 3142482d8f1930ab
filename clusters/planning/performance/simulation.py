"""A discrete-event simulation of replicas with in-flight batching, replaying a trace step by step.

Each step gives one token to every request that decodes and reads pieces of waiting prompts in order of
arrival, at most ``step_tokens`` tokens together; how long it takes is the performance model's ``step_ms``. A
request is admitted in order of arrival when there is a slot and room in the KV cache for its input and whole
output (TensorRT-LLM's GUARANTEED_NO_EVICT), and goes to the replica with the fewest tokens still to be done. What
``first_token_ms`` says beyond the steps of a prompt alone (tokenizing, answering) delays a request without
occupying the engine. Steps without prompts between two events are taken together.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import heapq
import math
from typing import Final

import numpy as np

from clusters.planning.performance.bursts import rate_spread
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.performance.queueing import Latencies
from clusters.planning.problem import LoadProfile

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

_MINUTE_MS: Final = 60_000.0


class TraceError(ValueError):
    """A trace that cannot be replayed."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Requests in order of arrival: when (milliseconds), input, output and those input tokens that a cache holds.

    Raises:
        TraceError: the columns are not of one length, out of order, or hold what no request has.
    """

    arrivals_ms: Floats
    input_tokens: Counts
    output_tokens: Counts
    cached_tokens: Counts

    def __post_init__(self) -> None:
        if len({len(self), *(len(column) for column in self._tokens())}) != 1:
            raise TraceError("the columns of a trace have one length")
        if len(self) == 0:
            raise TraceError("a trace has at least one request")
        if np.any(np.diff(self.arrivals_ms) < 0) or not np.all(np.isfinite(self.arrivals_ms)):
            raise TraceError("requests are given in order of arrival")
        if self.input_tokens.min() < 1 or self.output_tokens.min() < 1 or self.cached_tokens.min() < 0:
            raise TraceError("a request has at least one input and one output token, and none cached or more")
        if np.any(self.cached_tokens >= self.input_tokens):
            raise TraceError("at least one input token of a request is not cached")

    def __len__(self) -> int:
        return len(self.arrivals_ms)

    def _tokens(self) -> tuple[Counts, Counts, Counts]:
        return self.input_tokens, self.output_tokens, self.cached_tokens

    @property
    def requests_per_second(self) -> float:
        """Mean rate from the first arrival to the last; 0 of a single moment."""
        span = float(self.arrivals_ms[-1] - self.arrivals_ms[0])
        return 1000 * (len(self) - 1) / span if span else 0.0

    def at_rate(self, requests_per_second: float) -> Trace:
        """The same requests, their times stretched or compressed to a mean rate."""
        begun = self.arrivals_ms[0]
        scale = self.requests_per_second / requests_per_second
        return dataclasses.replace(self, arrivals_ms=(self.arrivals_ms - begun) * scale)

    @classmethod
    def draw(cls, profile: LoadProfile, *, requests: int, rng: np.random.Generator) -> Trace:
        """Draw requests of a profile: lognormal lengths, Poisson arrivals whose rate changes each minute."""
        arrivals: list[Floats] = []
        drawn, minute = 0, 0
        spread = rate_spread(profile.requests_per_second, profile.burstiness)
        if profile.requests_per_second <= 0:
            raise TraceError("a load of no requests draws none")
        while drawn < requests:
            factor = rng.gamma(1 / spread**2, spread**2) if spread else 1.0
            count = rng.poisson(60 * profile.requests_per_second * factor)
            arrivals.append(np.sort(rng.uniform(minute * _MINUTE_MS, (minute + 1) * _MINUTE_MS, count)))
            drawn, minute = drawn + count, minute + 1
        inputs = _lengths(profile.input_tokens, profile.input_cv, requests, rng)
        cached = np.minimum(np.rint(inputs * profile.prefix_share).astype(np.int64), inputs - 1)
        return cls(
            arrivals_ms=np.concatenate(arrivals)[:requests],
            input_tokens=inputs,
            output_tokens=_lengths(profile.output_tokens, profile.output_cv, requests, rng),
            cached_tokens=cached,
        )


def _lengths(mean: float, cv: float, count: int, rng: np.random.Generator) -> Counts:
    sigma = math.sqrt(math.log(1 + cv**2))
    drawn = rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, count)
    tokens: Counts = np.maximum(1, np.rint(drawn)).astype(np.int64)
    return tokens


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What became of a trace's requests, in its order. Times in milliseconds.

    The times between a request's tokens are 0 for a single token. ``gaps_ms`` are the steps that gave further
    tokens and ``gap_tokens`` how many each gave. ``steps`` counts all steps, ``busy_ms`` is their time over
    all replicas, ``held_ms`` the time that requests held slots, ``waited_ms`` the time that they waited for one.
    """

    trace: Trace
    ttft_ms: Floats
    itl_mean_ms: Floats
    itl_p95_ms: Floats
    itl_max_ms: Floats
    total_ms: Floats
    admitted_ms: Floats
    finished_ms: Floats
    replica: Counts
    gaps_ms: Floats
    gap_tokens: Counts
    gap_ends_ms: Floats
    prompt_tokens: int
    steps: int
    busy_ms: float
    replicas: int

    def latencies(self, *, skip: float = 0.0) -> Latencies:
        """Sum it up as the queueing model does, without the first share ``skip`` of the requests.

        The p95 between tokens is over all gaps. A replay always ends: it is called stable. Its utilisation is the
        share of time that steps took, which nears 1 long before a replica carries its most.
        """
        first = min(int(skip * len(self.trace)), len(self.trace) - 1)
        since = float(self.trace.arrivals_ms[first])
        until = float(self.trace.arrivals_ms[-1])
        counted = (self.gap_ends_ms >= since) & (self.gap_ends_ms <= until)
        if not counted.any():
            counted = np.ones(len(self.gaps_ms), dtype=bool)
        gaps, tokens = self.gaps_ms[counted], self.gap_tokens[counted]
        given = float(tokens.sum())
        held = np.minimum(self.finished_ms, until) - np.maximum(self.admitted_ms, since)
        held = np.maximum(held, 0.0)
        span = float(self.finished_ms.max() - self.trace.arrivals_ms[0])
        return Latencies(
            stable=True,
            utilisation=self.busy_ms / self.replicas / span,
            in_flight=float(held.sum()) / self.replicas / max(until - since, 1e-9),
            ttft_mean_ms=float(self.ttft_ms[first:].mean()),
            ttft_p95_ms=float(np.quantile(self.ttft_ms[first:], 0.95)),
            itl_mean_ms=float(gaps @ tokens) / given if given else 0.0,
            itl_p95_ms=_weighted_quantile(gaps, tokens, 0.95) if given else 0.0,
        )


def simulate(
    model: PerformanceModel,
    shape: Shape,
    trace: Trace,
    *,
    replicas: int = 1,
    batch_limit: int,
    step_tokens: int,
    kv_tokens: int | None = None,
) -> Replay:
    """Replay ``trace`` on ``replicas`` replicas of ``shape``; ``kv_tokens`` is what each one's cache holds.

    Raises:
        TraceError: a request never fits into the cache.
        ValueError: no replica, no slot, or a step with no room for a prompt beside a full batch.
    """
    if replicas < 1 or batch_limit < 1 or step_tokens <= batch_limit:
        raise ValueError("at least one replica and slot, and steps of more tokens than slots")
    needs = trace.input_tokens + trace.output_tokens
    if kv_tokens is not None and needs.max() > kv_tokens:
        raise TraceError(f"a request of {needs.max()} tokens does not fit into a cache of {kv_tokens}")
    book = _Book(trace)
    engines = [
        _Replica(model, shape, book, batch_limit, step_tokens, math.inf if kv_tokens is None else kv_tokens)
        for _ in range(replicas)
    ]
    homes = np.zeros(len(trace), dtype=np.int64)
    for request, arrival in enumerate(trace.arrivals_ms.tolist()):
        for engine in engines:
            engine.run(until=arrival)
        home = min(range(replicas), key=lambda place: engines[place].tokens_left)
        homes[request] = home
        engines[home].take(request, arrival)
    for engine in engines:
        engine.run(until=math.inf)
    return _replay(model, shape, trace, book, engines, homes, step_tokens)


class _Book:
    """The trace in plain lists, which are quicker to look into, and when each request passed each stage."""

    def __init__(self, trace: Trace) -> None:
        self.inputs: list[int] = trace.input_tokens.tolist()
        self.outputs: list[int] = trace.output_tokens.tolist()
        self.fresh: list[int] = (trace.input_tokens - trace.cached_tokens).tolist()
        self.admitted = [0.0] * len(trace)
        self.first = [0.0] * len(trace)
        self.finished = [0.0] * len(trace)
        self.first_run = [0] * len(trace)
        self.last_run = [0] * len(trace)


class _Replica:
    """One engine. Consecutive steps without prompts and events are one run."""

    def __init__(
        self,
        model: PerformanceModel,
        shape: Shape,
        book: _Book,
        batch_limit: int,
        step_tokens: int,
        kv_tokens: float,
    ) -> None:
        self._step_ms = functools.partial(model.step_ms, shape)
        self._book = book
        self._batch_limit = batch_limit
        self._step_tokens = step_tokens
        self._kv_left = kv_tokens
        self._waiting: collections.deque[int] = collections.deque()
        self._reading: collections.deque[int] = collections.deque()
        self._unread = 0  # prompt tokens of the first in reading
        self._decoding: list[tuple[int, int]] = []  # by the step that gives the last token
        self._context = 0
        self._now = 0.0
        self._step = 0
        self.tokens_left = 0
        self.prompt_tokens = 0
        self.busy_ms = 0.0
        self.run_ms: list[float] = []  # of one step
        self.run_steps: list[int] = []
        self.run_decoding: list[int] = []
        self.run_ends: list[float] = []

    def take(self, request: int, arrival: float) -> None:
        """Queue a request that arrives now."""
        if not (self._decoding or self._reading or self._waiting):
            self._now = max(self._now, arrival)
        self._waiting.append(request)
        self.tokens_left += self._book.fresh[request] + self._book.outputs[request]

    def run(self, *, until: float) -> None:
        """Take all steps that begin before ``until``."""
        while self._now < until:
            self._admit()
            if self._reading:
                self._mixed_step()
            elif self._decoding:
                self._decode(until)
            else:
                return

    def _admit(self) -> None:
        book = self._book
        while self._waiting and len(self._decoding) + len(self._reading) < self._batch_limit:
            request = self._waiting[0]
            need = book.inputs[request] + book.outputs[request]
            if need > self._kv_left:
                return
            self._kv_left -= need
            self._waiting.popleft()
            if not self._reading:
                self._unread = book.fresh[request]
            self._reading.append(request)
            book.admitted[request] = self._now

    def _mixed_step(self) -> None:
        book, decoding = self._book, len(self._decoding)
        room = self._step_tokens - decoding
        read = 0
        done: list[int] = []
        while self._reading and room:
            piece = min(room, self._unread)
            room -= piece
            read += piece
            self._unread -= piece
            if not self._unread:
                done.append(self._reading.popleft())
                self._unread = book.fresh[self._reading[0]] if self._reading else 0
        context = self._context / decoding if decoding else 0.0
        self._advance(1, self._step_ms(decoding=float(decoding), context=context, prompt_tokens=float(read)))
        self.prompt_tokens += read
        self.tokens_left -= read
        for request in done:
            book.first[request] = self._now
            book.first_run[request] = len(self.run_ms)
            self.tokens_left -= 1
            self._context += book.inputs[request] + 1
            heapq.heappush(self._decoding, (self._step + book.outputs[request] - 1, request))
        self._release()

    def _decode(self, until: float) -> None:
        decoding = len(self._decoding)
        context = self._context / decoding
        most = self._decoding[0][0] - self._step
        begin = self._step_ms(decoding=float(decoding), context=context, prompt_tokens=0.0)
        steps = most if math.isinf(until) else max(1, min(most, math.ceil((until - self._now) / begin)))
        mean = begin
        if steps > 1:
            end = self._step_ms(decoding=float(decoding), context=context + steps - 1, prompt_tokens=0.0)
            mean = (begin + end) / 2
        self._advance(steps, mean)
        self._release()

    def _advance(self, steps: int, step_ms: float) -> None:
        decoding = len(self._decoding)
        self._step += steps
        self._now += steps * step_ms
        self.busy_ms += steps * step_ms
        self._context += steps * decoding
        self.tokens_left -= steps * decoding
        self.run_ms.append(step_ms)
        self.run_steps.append(steps)
        self.run_decoding.append(decoding)
        self.run_ends.append(self._now)

    def _release(self) -> None:
        book = self._book
        while self._decoding and self._decoding[0][0] == self._step:
            _, request = heapq.heappop(self._decoding)
            book.finished[request] = self._now
            book.last_run[request] = len(self.run_ms)
            held = book.inputs[request] + book.outputs[request]
            self._context -= held
            self._kv_left += held


def _replay(
    model: PerformanceModel,
    shape: Shape,
    trace: Trace,
    book: _Book,
    engines: list[_Replica],
    homes: Counts,
    step_tokens: int,
) -> Replay:
    count = len(trace)
    beside = _beside_steps_ms(model, shape, trace, step_tokens)
    first, finished, admitted = np.array(book.first), np.array(book.finished), np.array(book.admitted)
    further = trace.output_tokens - 1
    p95, longest = np.zeros(count), np.zeros(count)
    times = [np.array(engine.run_ms) for engine in engines]
    lengths = [np.array(engine.run_steps, dtype=np.int64) for engine in engines]
    for request in np.flatnonzero(further).tolist():
        home, runs = homes[request], slice(book.first_run[request], book.last_run[request])
        gaps = times[home][runs]
        longest[request] = gaps.max()
        p95[request] = _weighted_quantile(gaps, lengths[home][runs], 0.95)
    steps = np.concatenate(lengths)
    given = steps * np.concatenate([np.array(engine.run_decoding, dtype=np.int64) for engine in engines])
    counted = given > 0
    return Replay(
        trace=trace,
        ttft_ms=first - trace.arrivals_ms + beside,
        itl_mean_ms=(finished - first) / np.maximum(1, further),
        itl_p95_ms=p95,
        itl_max_ms=longest,
        total_ms=finished - trace.arrivals_ms + beside,
        admitted_ms=admitted,
        finished_ms=finished,
        replica=homes,
        gaps_ms=np.concatenate(times)[counted],
        gap_tokens=given[counted],
        gap_ends_ms=np.concatenate([np.array(engine.run_ends) for engine in engines])[counted],
        prompt_tokens=sum(engine.prompt_tokens for engine in engines),
        steps=int(steps.sum()),
        busy_ms=sum(engine.busy_ms for engine in engines),
        replicas=len(engines),
    )


def _beside_steps_ms(model: PerformanceModel, shape: Shape, trace: Trace, step_tokens: int) -> Floats:
    """What a first token takes beyond the steps of its prompt alone; may be negative where models disagree."""
    fresh = (trace.input_tokens - trace.cached_tokens).astype(np.float64)
    nothing = np.zeros_like(fresh)
    whole, rest = np.divmod(fresh, step_tokens)
    pieces = model.step_ms(
        shape, decoding=nothing, context=nothing, prompt_tokens=np.full_like(fresh, float(step_tokens))
    )
    last = model.step_ms(shape, decoding=nothing, context=nothing, prompt_tokens=rest)
    alone: Floats = whole * pieces + np.where(rest > 0, last, 0.0)
    return model.first_token_ms(shape, input_tokens=fresh) - alone


def _weighted_quantile(values: Floats, weights: Counts, part: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, part * reached[-1] * (1 - 1e-12))]])
