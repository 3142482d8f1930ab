"""From a distribution to one token: temperature, top-k, top-p, penalties, seed."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class InvalidRequest(ValueError):
    """What the client asked for cannot be done; the message says which field and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when to stop, checked on construction.

    ``temperature`` 0 takes the likeliest token; ``top_k`` 0 means no limit; ``seed`` None draws one.
    Penalties are OpenAI's: subtracted from a token's log-probability once it was generated.

    Raises:
        InvalidRequest: a value is out of range.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, low=1)
        _check("min_tokens", self.min_tokens, low=0, high=self.max_tokens)
        _check("temperature", self.temperature, low=0, high=100)
        _check("top_k", self.top_k, low=0)
        _check("top_p", self.top_p, low=0, high=1)
        _check("presence_penalty", self.presence_penalty, low=-2, high=2)
        _check("frequency_penalty", self.frequency_penalty, low=-2, high=2)
        if len(self.stop) > 16:
            raise InvalidRequest(f"stop_words may hold 16 texts at most, got {len(self.stop)}")
        if any(not text or len(text) > 256 for text in self.stop):
            raise InvalidRequest("every text in stop_words must have 1 to 256 characters")


class Sampler:
    """Draws one request's tokens; the same seed and distributions give the same tokens."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._random = random.Random(params.seed)  # noqa: S311 - repeatable draws, not secrets
        self._penalised = bool(params.presence_penalty or params.frequency_penalty)
        self._penalties: dict[int, float] = {}

    def draw(self, weights: Array, *, banned: int | None = None) -> int:
        """Choose a token by ``weights`` (non-negative, changed in place), never ``banned``."""
        params = self._params
        if banned is not None:
            weights[banned] = 0.0
        if self._penalties:
            self._penalise(weights, self._penalties)
        if params.temperature == 0 or params.top_p == 0 or params.top_k == 1:
            token = int(weights.argmax())
        else:
            token = self._random_choice(weights)
        if self._penalised:
            already = self._penalties.get(token, params.presence_penalty)
            self._penalties[token] = already + params.frequency_penalty
        return token

    def _random_choice(self, weights: Array) -> int:
        params = self._params
        if params.temperature != 1.0:
            # Scaling by the maximum first keeps a low temperature from rounding all to zero.
            weights = (weights / weights.max()) ** (1.0 / params.temperature)
        candidates = None
        if 0 < params.top_k < len(weights):
            candidates = np.argpartition(weights, -params.top_k)[-params.top_k :]
        if params.top_p < 1.0:
            order = np.argsort(-weights if candidates is None else -weights[candidates], kind="stable")
            candidates = order if candidates is None else candidates[order]
            mass = weights[candidates].cumsum()
            candidates = candidates[: int(np.searchsorted(mass, params.top_p * mass[-1])) + 1]
        mass = (weights if candidates is None else weights[candidates]).cumsum()
        chosen = int(np.searchsorted(mass, self._random.random() * mass[-1], side="right"))
        chosen = min(chosen, len(mass) - 1)
        return chosen if candidates is None else int(candidates[chosen])

    @staticmethod
    def _penalise(weights: Array, penalties: Mapping[int, float]) -> None:
        tokens = np.fromiter(penalties.keys(), dtype=np.intp, count=len(penalties))
        weights[tokens] *= np.exp(-np.fromiter(penalties.values(), dtype=np.float64, count=len(penalties)))


def _check(name: str, value: float, *, low: float, high: float = math.inf) -> None:
    if not low <= value <= high:  # false for NaN as well
        limit = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise InvalidRequest(f"{name} must be {limit}, got {value}")
