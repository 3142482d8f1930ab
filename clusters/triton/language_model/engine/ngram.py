"""An interpolated n-gram language model over token ids, ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

END = 0
"""Id of the token that ends a text; it stands in front of every text as well."""


class NGramModel:
    """p(next token | last ``order - 1`` tokens), smoothed by interpolated Kneser-Ney.

    The file holds, for every order k from 2 up, the seen contexts of k - 1 tokens, for every context
    its back-off weight and the span of its seen continuations, and for every continuation its token
    and discounted probability. The distribution is built
    from the shortest context up: ``p_k(w|h) = discounted(h, w) + weight(h) * p_{k-1}(w|h')``.
    """

    def __init__(self, *, unigrams: Array, levels: Sequence[Level]) -> None:
        self._unigrams = unigrams
        self._levels = levels
        self.order = len(levels) + 1
        self.vocabulary = len(unigrams)

    @classmethod
    def load(cls, path: Path) -> NGramModel:
        """Read the file that training wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            order = int(arrays["order"])
            levels = [
                Level(
                    contexts=arrays[f"contexts_{k}"],
                    weights=arrays[f"weights_{k}"],
                    spans=arrays[f"spans_{k}"],
                    tokens=arrays[f"tokens_{k}"],
                    probabilities=arrays[f"probabilities_{k}"],
                )
                for k in range(2, order + 1)
            ]
            return cls(unigrams=arrays["unigrams"], levels=levels)

    @property
    def parameters(self) -> int:
        """How many numbers the model learned: probabilities and back-off weights."""
        return len(self._unigrams) + sum(len(lv.weights) + len(lv.probabilities) for lv in self._levels)

    def distribution(self, history: Sequence[int]) -> Array:
        """Give p(next token) after ``history`` as a new float64 array of length ``vocabulary``."""
        p = self._unigrams.copy()
        key = 0
        for k, level in enumerate(self._levels, start=1):
            if k > len(history):
                break
            key = key << 16 | history[-k]
            row = level.rows.get(key)
            if row is None:  # a longer context cannot have been seen either
                break
            start, end = level.spans[row], level.spans[row + 1]
            p *= level.weights[row]
            p[level.tokens[start:end]] += level.probabilities[start:end]
        return p


class Level:
    """The seen contexts of one length and what followed them."""

    __slots__ = ("probabilities", "rows", "spans", "tokens", "weights")

    def __init__(
        self,
        *,
        contexts: Array,
        weights: Array,
        spans: Array,
        tokens: Array,
        probabilities: Array,
    ) -> None:
        self.rows = {int.from_bytes(context.tobytes(), "little"): row for row, context in enumerate(contexts)}
        self.weights = weights.tolist()
        self.spans = spans.tolist()
        self.tokens = tokens.astype(np.intp)
        self.probabilities = probabilities.astype(np.float64)
