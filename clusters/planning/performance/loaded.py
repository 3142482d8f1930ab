"""One replica under one steady rate: the distributions that latencies are quantiles of; see ``queueing``."""

from __future__ import annotations

import functools
import math
import statistics
from typing import Final

import numpy as np

from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.problem import LoadProfile

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

_normal = statistics.NormalDist()


def _amid(*edges: float) -> tuple[Floats, Floats]:
    """The middles of the parts of a distribution between ``edges``, and the parts' weights."""
    sides = np.array(edges)
    return (sides[1:] + sides[:-1]) / 2, np.diff(sides)


def _normal_points(ranks: Floats) -> Floats:
    return np.array([_normal.inv_cdf(rank) for rank in ranks.tolist()])


# Distributions are taken at a few points of known weight, denser where a p95 is made.
_OWN_RANKS, _OWN_WEIGHTS = _amid(
    0, 0.3, 0.5, 0.65, 0.75, 0.82, 0.87, 0.9, 0.92, 0.935, 0.945, 0.955, 0.97, 0.985, 1
)  # fmt: skip
_OWN_POINTS: Final = _normal_points(_OWN_RANKS)
_STEP_RANKS, _STEP_WEIGHTS = _amid(0, 0.3, 0.6, 0.8, 0.9, 0.94, 0.96, 1)
_BEFORE_RANKS, _BEFORE_WEIGHTS = _amid(0, 0.25, 0.5, 0.7, 0.82, 0.9, 0.94, 0.965, 0.98, 0.99, 1)
_AROUND_P95: Final = np.array([0.94, 0.945, 0.95, 0.955, 0.96])

# A gap without others' prompts, then gaps with ever more of them.
_READ_RANKS, _READ_WEIGHTS = _amid(*(part / 16 for part in range(17)))
_READ_POINTS: Final = np.concatenate(([0.0], _normal_points(_READ_RANKS)))
_READ_ANY: Final = np.concatenate(([0.0], np.ones(16)))
_READ: Final = np.concatenate(([0.0], _READ_WEIGHTS))
_NOT_READ: Final = np.concatenate(([1.0], 0 * _READ_WEIGHTS))

# The cycle that an arrival meets: none, one without prompts, then ones with ever more of them.
_MET_RANKS, _MET_WEIGHTS = _amid(0, 0.3, 0.6, 0.8, 0.92, 1)
_MET_POINTS: Final = np.concatenate(([0.0, 0.0], _normal_points(_MET_RANKS)))
_MET_ANY: Final = np.concatenate(([1e-9, 1.0], np.ones(5)))  # above 0: it is divided by
_MET_MORE: Final = np.concatenate(([0.0, 0.0], np.ones(5)))
_MET_READ: Final = np.concatenate(([0.0, 0.0], _MET_WEIGHTS))
_MET_PLAIN: Final = np.concatenate(([0.0, 1.0], 0 * _MET_WEIGHTS))
_REST: Final = np.array([1 / 6, 1 / 2, 5 / 6])  # of that cycle, by thirds
_REST_WEIGHTS: Final = np.full((3, 1), 1 / 3)

# Nothing, or an exponential amount: multiples of its mean, and the chances of either case.
_AMOUNT_RANKS, _AMOUNT_WEIGHTS = _amid(0, 0.4, 0.7, 0.9, 1)
_AMOUNTS: Final = np.concatenate(([0.0], -np.log(1 - _AMOUNT_RANKS)))
_SOMETHING: Final = np.concatenate(([0.0], _AMOUNT_WEIGHTS))
_NOTHING: Final = np.concatenate(([1.0], 0 * _AMOUNT_WEIGHTS))


@functools.lru_cache(maxsize=64)
def _sizes(limit: int) -> tuple[Floats, Floats]:
    """Numbers of requests up to ``limit``, and the logarithms of their factorials."""
    sizes = np.arange(1, limit + 1, dtype=np.float64)
    return sizes, np.cumsum(np.log(sizes))


@functools.lru_cache(maxsize=64)
def _doublings(limit: int) -> Floats:
    return np.array(sorted({*(2**power for power in range(limit.bit_length())), limit}), dtype=np.float64)


class Engine:
    """One replica serving one profile: what does not depend on the rate."""

    def __init__(
        self, model: PerformanceModel, shape: Shape, profile: LoadProfile, batch_limit: int, step_tokens: int
    ) -> None:
        fresh, outputs = profile.fresh_tokens, float(profile.output_tokens)
        # A request in flight has, seen at a random moment, half its output when all are equal, more otherwise.
        context = profile.input_tokens + outputs * (1 + profile.output_cv**2) / 2
        self.sigma = math.sqrt(math.log(1 + profile.input_cv**2))
        self.square = 1 + profile.input_cv**2  # E[reading**2] / E[reading]**2
        self.waits_vary = (1 + profile.output_cv**2) / 2
        self.batch_limit = batch_limit
        self.sizes, self.log_sizes = _sizes(batch_limit)

        def step(decoding: float, prompt_tokens: float = 0.0) -> float:
            return model.step_ms(shape, decoding=decoding, context=context, prompt_tokens=prompt_tokens)

        middle = math.sqrt(batch_limit)
        # Attention makes long prompts dearer by the token: cost at the length that tokens see on average.
        piece = min(fresh * self.square, float(step_tokens))
        reading = (step(middle, piece) - step(middle)) / piece
        self.read_ms = reading * fresh
        self.piece_ms = reading * step_tokens
        self.pieces = _pieces(fresh, self.sigma, step_tokens)
        self.further = outputs - 1
        self.steps = self.further + self.pieces
        # A request whose prompt is being read holds a slot and does not decode, for a step at least.
        decoding = max(self.further, 0.5) / (self.further + 1)
        if shape.architecture.is_mixture:  # how many experts a batch touches bends: more points
            points = _doublings(batch_limit)
            times = model.step_ms(
                shape,
                decoding=points * decoding,
                context=np.full_like(points, context),
                prompt_tokens=np.zeros_like(points),
            )
        else:
            points = np.array((1.0, middle, float(batch_limit)))
            times = np.array([step(size * decoding) for size in points.tolist()])
        self.step_ms = np.interp(self.sizes, points, times)
        self.log_step = np.cumsum(np.log(self.step_ms))
        self.alone_ms, self.last_ms = float(times[0]), float(times[-1])
        # Fewer than the batch limit where a step has no room for the prompts that its decoding makes way for.
        roomy = min(float(batch_limit), step_tokens * self.steps / (fresh + outputs))
        self.crowded_ms = self.last_ms if roomy == batch_limit else step(roomy * decoding)
        self.room = step_tokens * fresh / (fresh + outputs), float(step_tokens)
        self.fresh = fresh
        self.busy_ms = self.read_ms + self.steps * self.crowded_ms / roomy
        self.own_ms, self.own_mean_ms = self._first_tokens(
            *(model.first_token_ms(shape, input_tokens=tokens) for tokens in (1.0, fresh, 3 * fresh))
        )
        # What others' prompts can add to a gap: a full batch reads those of its leavers' successors.
        self.most_read_ms = self.piece_ms if batch_limit > 1 else 0.0
        successors = self.read_ms * (batch_limit - 1) / (self.further + 1)
        self.full_itl_ms = self.last_ms + min(successors, self.most_read_ms)

    def _first_tokens(self, shortest: float, mean: float, long: float) -> tuple[Floats, float]:
        """First tokens alone at points of the prompts' distribution, and their mean: a parabola."""
        bend = max(0.0, (long - 3 * mean + 2 * shortest) / 6)
        slope = max(0.0, mean - shortest - bend)
        relative = np.exp(self.sigma * _OWN_POINTS - self.sigma**2 / 2)
        return shortest + relative * (slope + bend * relative), shortest + slope + bend * self.square


def _pieces(fresh: float, sigma: float, step_tokens: int) -> float:
    """Mean number of steps that a prompt is read in: whole pieces by the lognormal's partial expectation."""
    if sigma == 0:
        return float(max(1, math.ceil(fresh / step_tokens)))
    distance = (math.log(step_tokens / fresh) + sigma**2 / 2) / sigma
    longer = math.erfc(distance / math.sqrt(2)) / 2
    excess = fresh * math.erfc((distance - sigma) / math.sqrt(2)) / 2 - step_tokens * longer
    return 1 + max(0.0, excess) / step_tokens + longer / 2


class Loaded:
    """One replica under a rate of Poisson arrivals per millisecond that it carries."""

    def __init__(self, engine: Engine, rate: float) -> None:
        self._engine = e = engine
        self._rate = rate
        self._load = load = rate * e.read_ms
        offered = rate * e.steps / (1 - load)
        weights = e.sizes * math.log(offered) + e.log_step - e.log_sizes
        top = max(0.0, float(weights.max()))
        crowd = np.exp(weights - top)
        # A full batch reads the prompts of those that follow its leavers, not of all that arrive.
        full, ratio = float(crowd[-1]), rate * e.busy_ms
        crowd[-1] = full / (1 - ratio)
        busy = float(crowd.sum())
        total = busy + math.exp(-top)
        self._busy = 1 - (1 - load) * (1 - busy / total)  # the chain spreads the reading of prompts evenly
        self._crowd = crowd
        self._waiting = float(crowd[-1]) / total
        self._slot_ms = full * ratio / (1 - ratio) ** 2 / total / rate * e.waits_vary
        self._step_ms = step = float(crowd @ e.step_ms) / busy
        square = float(crowd @ e.step_ms**2) / busy
        self._cycle_ms = cycle = step / (1 - load)
        variance = (rate * cycle * e.read_ms**2 * e.square + max(0.0, square - step**2)) / (1 - load**2)
        self._met_cycle_ms = cycle + variance / cycle
        # Cycles with and without prompts follow each other: nothing came in the one before, or something.
        came = -math.expm1(-rate * step)
        self._reads = came / (came + math.exp(-rate * (step + e.read_ms)))
        self._together_ms = load * cycle / self._reads
        # Cycles' squares tell how unlike the amounts are that are read in one: at least as unlike as prompts.
        rest = variance + cycle**2 - square - 2 * step * load * cycle
        unlike = rest / self._reads / self._together_ms**2 if load else e.square
        self._sigma = math.sqrt(math.log(max(e.square, unlike)))
        self._held = float(crowd @ e.sizes) / total
        self._bunched_ms = self._bunching_ms()
        self.itl_ms = min(self._held / (rate * e.steps) + self._bunched_ms, e.full_itl_ms)
        in_engine = e.further * self.itl_ms + e.pieces * step + e.read_ms + self._shared_ms()
        self.in_flight = min(float(e.batch_limit), rate * in_engine)

    def _bunching_ms(self) -> float:
        """How much more than a usual cycle a request's further tokens take.

        It came in a longer cycle than usual, whose other prompts are read with its own: in the cycle of its j-th
        further token load**j of both is left to be read.
        """
        e, load = self._engine, self._load
        if not e.further:
            return 0.0
        begun = load * (self._met_cycle_ms - self._cycle_ms) + e.read_ms
        left = load * (1 - math.pow(load, e.further)) / (1 - load)
        return left / e.further * begun

    def _shared_ms(self) -> float:
        """Mean time for prompts that are read before a request's own or in the same steps."""
        e, load = self._engine, self._load
        before = load * self._met_cycle_ms / 2
        together = self._busy * (before + min(before, e.piece_ms / 2))
        least, most = e.room
        piece = min(self._step_ms, e.crowded_ms) * e.fresh / max(least, most - self._held)
        pieces = self._rate * piece
        queue = self._rate * e.square / 2
        whole = queue * (e.read_ms + piece) ** 2 / (1 - load - pieces)
        return together + whole - queue * e.read_ms**2 / (1 - load)

    def _stretch_ms(self) -> float:
        """How much longer the steps of the own prompt take because others decode."""
        e = self._engine
        return self._busy * e.pieces * max(0.0, self._step_ms - e.alone_ms)

    def ttft_mean_ms(self) -> float:
        """Mean time to the first token."""
        rest = self._busy * self._met_cycle_ms / 2
        return self._engine.own_mean_ms + rest + self._stretch_ms() + self._shared_ms() + self._slot_ms

    def ttft_p95_ms(self, left_chance: float, left_over_ms: float) -> float:
        """The time to the first token that 19 of 20 do not exceed.

        With ``left_chance`` a request also waits for earlier minutes' work, ``left_over_ms`` in the mean of all.
        """
        e, rate = self._engine, self._rate
        reads = self._together_ms * np.exp(self._sigma * _MET_POINTS - self._sigma**2 / 2)
        cycles = self._step_ms * _MET_ANY + reads * _MET_MORE
        met = ((1 - self._reads) * _MET_PLAIN + self._reads * _MET_READ) * cycles
        met *= self._busy / met.sum()
        met[0] = 1 - self._busy
        # The rest of the cycle under way, then what came in it: nothing, or an exponential amount.
        came = -np.expm1(-rate * cycles)
        shared = self._shared_ms() / (self._busy * self._met_cycle_ms)
        amounts = (shared * cycles / came)[:, None] * _AMOUNTS
        chances = (1 - came)[:, None] * _NOTHING + came[:, None] * _SOMETHING
        before = (amounts[:, None, :] + (cycles[:, None] * _REST)[:, :, None]).ravel()
        weights = ((met[:, None] * chances)[:, None, :] * _REST_WEIGHTS).ravel()
        before, weights = _and_perhaps(before, weights, self._waiting, self._slot_ms)
        before, weights = _quantiles(before, weights, _BEFORE_RANKS), _BEFORE_WEIGHTS
        before, weights = _and_perhaps(before, weights, left_chance, left_over_ms)
        times = (e.own_ms[:, None] + before).ravel()
        shares = (_OWN_WEIGHTS[:, None] * weights).ravel()
        return self._stretch_ms() + _p95(times, shares)

    def itl_p95_ms(self) -> float:
        """The gap between two tokens that 19 of 20 do not exceed."""
        e = self._engine
        held = np.cumsum(self._crowd * e.sizes)
        steps = e.step_ms[np.searchsorted(held, _STEP_RANKS * held[-1])]
        # Gaps meet prompts more often than cycles do, as they are bunched: by the ratio of their means.
        plain = (1 - self._reads) ** ((1 + self._bunched_ms / self._cycle_ms) * e.pieces)
        together = self._together_ms + self._bunched_ms
        reads = together * np.exp(e.sigma * _READ_POINTS - e.sigma**2 / 2) * _READ_ANY
        times = (steps[:, None] + np.minimum(reads, e.most_read_ms)).ravel()
        shares = (_STEP_WEIGHTS[:, None] * (plain * _NOT_READ + (1 - plain) * _READ)).ravel()
        return _p95(times, shares)


def _and_perhaps(values: Floats, weights: Floats, chance: float, mean: float) -> tuple[Floats, Floats]:
    """Add to each value an exponential amount with ``chance``, ``mean`` of all, independently."""
    if chance < 1e-6:
        return values, weights
    chances = (1 - chance) * _NOTHING + chance * _SOMETHING
    return (values[:, None] + mean / chance * _AMOUNTS).ravel(), (weights[:, None] * chances).ravel()


def _p95(values: Floats, weights: Floats) -> float:
    """The 95th percentile, smoothed over the points beside it."""
    around = _quantiles(values, weights, _AROUND_P95)
    return float(around.sum()) / len(around)


def _quantiles(values: Floats, weights: Floats, ranks: Floats) -> Floats:
    """The smallest values that at least ``ranks`` of the weight do not exceed."""
    order = values.argsort()
    reached = weights[order].cumsum()
    places = reached.searchsorted(ranks * (reached[-1] * (1 - 1e-12)))
    found: Floats = values[order[np.minimum(places, len(values) - 1)]]
    return found
