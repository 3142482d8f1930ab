"""Latencies of one replica under load: queueing on top of a performance model, in closed form.

An engine with in-flight batching advances in steps. A step gives one token to each request that decodes and
reads pieces of waiting prompts, at most ``step_tokens`` tokens together. What follows from that:

* Requests in flight are a birth-death chain: each needs its output's steps, and a step of n requests takes
  d(n), so n requests finish at n / (steps x d(n)). Its stationary distribution depends on the lengths' means
  only (processor sharing with state-dependent rates: Cohen, Acta Informatica 12, 1979; Kelly, Reversibility and
  Stochastic Networks, 1979). Beyond the batch limit requests wait in order of arrival.
* Their wait for a slot has the mean of the chain's queue times (1 + cv**2) / 2 (Allen-Cunneen).
* Prompts that arrive in a step are read in the next one: gated service with the decoding step as vacation.
  A cycle's mean is d / (1 - load), its variance (rate x E[reading**2] + Var d) / (1 - load**2) (Takagi, Queueing
  Analysis 1, 1991). A prompt waits for the rest of the cycle under way and is read with all that arrived in it.
* Prompts longer than a step's budget go in pieces, each with a decoding step of its own: what that adds to the
  wait is the difference of two M/G/1 queues (Pollaczek-Khinchine).
* The rate changes from minute to minute. Means are weighted between those at the mean rate and at that of a busy
  minute, p95s are those of a busy minute (``bursts.busy_rate``), and work that a minute cannot do is left over to the
  next: a random walk whose largest value is waited for (Lindley; Spitzer).

The p95s are quantiles of distributions that are made of these parts, taken at points of equal or known weight.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

from clusters.planning.performance.bursts import busy_rate, left_over, rate_spread
from clusters.planning.performance.loaded import Engine, Loaded
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.problem import LoadProfile

#: Weight of the busy minutes in means where no work is left over from one minute to the next.
BUSY_WEIGHT: Final = 0.2

#: Share of a replica's capacity up to which a busy minute settles; what is beyond is left over.
SETTLES: Final = 0.95

#: Share of its capacity that a replica is taken to carry at least: an idle one's latencies are those of this.
LEAST: Final = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latencies:
    """What requests of one load find. Times are milliseconds, those to first tokens infinite unless ``stable``.

    ``utilisation`` is the load over the largest that one replica carries, ``in_flight`` the mean number of
    requests that hold a slot of a replica. The p95 between tokens is over all gaps of all streams.
    """

    stable: bool
    utilisation: float
    in_flight: float
    ttft_mean_ms: float
    ttft_p95_ms: float
    itl_mean_ms: float
    itl_p95_ms: float


def latencies(
    model: PerformanceModel,
    shape: Shape,
    profile: LoadProfile,
    *,
    replicas: int,
    batch_limit: int,
    step_tokens: int,
    rate: float | None = None,
) -> Latencies:
    """Predict what requests find; see :class:`Queue`. ``rate`` stands for the profile's requests per second.

    Raises:
        ValueError: fewer than one replica, slot or token of a step.
    """
    queue = Queue(model, shape, profile, batch_limit=batch_limit, step_tokens=step_tokens)
    return queue.under(profile.requests_per_second if rate is None else rate, replicas=replicas)


class Queue:
    """Replicas of one shape that serve one profile, to be asked for the latencies under any rate.

    Nothing gets better (within two percent, of the points that distributions are taken at) when the rate, the
    input tokens or the burstiness grow, or with fewer replicas; nor do utilisation and the mean time to first
    tokens when the output tokens grow, nor utilisation with a smaller ``batch_limit``. The times between tokens
    may fall when outputs grow, because others' prompts are spread over more of them; their p95 may when prompts grow
    where busy minutes fill every step, because longer prompts leave less room to decode in it.

    Minutes are taken to be independent. Where rates stay high for longer, a p95 to hold then is that of
    the rate times burstiness with a burstiness of 1.

    Raises:
        ValueError: fewer than one slot or token of a step.
    """

    def __init__(
        self,
        model: PerformanceModel,
        shape: Shape,
        profile: LoadProfile,
        *,
        batch_limit: int,
        step_tokens: int,
    ) -> None:
        if batch_limit < 1 or step_tokens < 1:
            raise ValueError("batch_limit and step_tokens are at least 1")
        self._engine = Engine(model, shape, profile, batch_limit, step_tokens)
        self._burstiness = profile.burstiness

    def under(self, rate: float, *, replicas: int = 1, burstiness: float | None = None) -> Latencies:
        """Give the latencies under ``rate`` requests per second that ``replicas`` share evenly.

        ``burstiness`` stands for the profile's.

        Raises:
            ValueError: fewer than one replica.
        """
        if replicas < 1:
            raise ValueError("replicas are at least 1")
        engine = self._engine
        mean = rate / replicas / 1000
        if mean * engine.busy_ms >= 1:
            return Latencies(
                stable=False,
                utilisation=mean * engine.busy_ms,
                in_flight=float(engine.batch_limit),
                ttft_mean_ms=math.inf,
                ttft_p95_ms=math.inf,
                itl_mean_ms=engine.full_itl_ms,
                itl_p95_ms=engine.last_ms + engine.most_read_ms,
            )
        least, usual, rush, chance, wait_ms = self._minutes(rate, replicas, burstiness)
        weight = BUSY_WEIGHT + (1 - BUSY_WEIGHT) * chance

        def over_minutes(usually: float, busily: float) -> float:
            return usually + weight * (busily - usually)

        return Latencies(
            stable=True,
            utilisation=mean * engine.busy_ms,
            in_flight=over_minutes(usual.in_flight, rush.in_flight) * mean / least,
            ttft_mean_ms=over_minutes(usual.ttft_mean_ms(), rush.ttft_mean_ms()) + wait_ms,
            ttft_p95_ms=rush.ttft_p95_ms(chance, wait_ms),
            itl_mean_ms=over_minutes(usual.itl_ms, rush.itl_ms),
            itl_p95_ms=rush.itl_p95_ms(),
        )

    def keeps(
        self,
        rate: float,
        *,
        ttft_p95_ms: float,
        itl_p95_ms: float,
        replicas: int = 1,
        burstiness: float | None = None,
    ) -> bool:
        """Say whether :meth:`under` gives p95s within limits, infinite for none, working out no more than that."""
        if rate / replicas / 1000 * self._engine.busy_ms >= 1:
            return False
        *_, rush, chance, wait_ms = self._minutes(rate, replicas, burstiness)
        if itl_p95_ms < math.inf and rush.itl_p95_ms() > itl_p95_ms:
            return False
        return ttft_p95_ms == math.inf or rush.ttft_p95_ms(chance, wait_ms) <= ttft_p95_ms

    def _minutes(
        self, rate: float, replicas: int, burstiness: float | None
    ) -> tuple[float, Loaded, Loaded, float, float]:
        """Give the rate of a usual minute, that minute, a busy one, the chance of work left over and its wait."""
        engine = self._engine
        bursts = self._burstiness if burstiness is None else burstiness
        mean, busy = rate / replicas / 1000, busy_rate(rate, bursts) / replicas / 1000
        least = max(mean, LEAST / engine.busy_ms)
        settled = min(busy, SETTLES / engine.busy_ms)
        usual = Loaded(engine, least)
        rush = usual if settled <= least else Loaded(engine, settled)
        return least, usual, rush, *left_over(mean * engine.busy_ms, rate_spread(rate, bursts))
