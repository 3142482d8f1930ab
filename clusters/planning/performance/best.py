"""The model that the planner works with: measured where it was measured, else calibrated, else the plain roofline."""

from __future__ import annotations

import dataclasses
import functools
from typing import Final

from clusters.planning.performance.calibrated import KEPT_SHAPES, Calibrated, Replica
from clusters.planning.performance.measured import MeasuredTable, shipped_table
from clusters.planning.performance.model import Confidence, Number, Shape
from clusters.planning.performance.roofline import Roofline

#: Rows of a shape from which on its numbers count as measured.
ENOUGH_ROWS: Final = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Mean times in a closed loop of clients, where they come from and how wrong they may be."""

    ttft_ms: float
    itl_ms: float
    confidence: Confidence


class BestKnown:
    """Answers from the best source that knows a shape.

    A shape that was measured has the calibrated formula corrected by a factor of its own, so that no time falls
    when more is asked; :meth:`estimate` also bends to the single rows of the table.
    """

    def __init__(
        self,
        calibrated: Calibrated | None = None,
        table: MeasuredTable | None = None,
        roofline: Roofline | None = None,
    ) -> None:
        self.calibrated = calibrated or Calibrated()
        self.table = shipped_table() if table is None else table
        self.roofline = roofline or Roofline()
        self._corrected: dict[Shape, Replica] = {}

    def on(self, shape: Shape) -> Replica | None:
        """Give the corrected formula of a shape, which answers within microseconds; None for the roofline's."""
        corrected = self._corrected.get(shape)
        if corrected is None:
            if not self.calibrated.knows(shape):
                return None
            if len(self._corrected) >= KEPT_SHAPES:
                self._corrected.clear()
            plain = self.calibrated.on(shape)
            itl, ttft = self.table.correction(shape, plain)
            corrected = self._corrected[shape] = dataclasses.replace(
                plain, itl_factor=plain.itl_factor * itl, ttft_factor=plain.ttft_factor * ttft
            )
        return corrected

    def step_ms(self, shape: Shape, *, decoding: Number, context: Number, prompt_tokens: Number) -> Number:
        """Milliseconds of one step; see :class:`PerformanceModel`."""
        replica = self.on(shape)
        if replica is None:
            return self.roofline.step_ms(
                shape, decoding=decoding, context=context, prompt_tokens=prompt_tokens
            )
        return replica.step_ms(decoding=decoding, context=context, prompt_tokens=prompt_tokens)

    def itl_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: Number, output_tokens: Number
    ) -> Number:
        """Mean milliseconds between tokens; see :class:`PerformanceModel`."""
        replica = self.on(shape)
        if replica is None:
            return self.roofline.itl_ms(
                shape, concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
            )
        return replica.itl_ms(concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens)

    def first_token_ms(self, shape: Shape, *, input_tokens: Number) -> Number:
        """Milliseconds to a first token at an idle replica; see :class:`PerformanceModel`."""
        replica = self.on(shape)
        if replica is None:
            return self.roofline.first_token_ms(shape, input_tokens=input_tokens)
        return replica.first_token_ms(input_tokens=input_tokens)

    def saturated_ttft_ms(
        self, shape: Shape, *, concurrency: Number, input_tokens: float, output_tokens: float
    ) -> Number:
        """Mean milliseconds to the first token with ``concurrency`` clients that ask again once answered."""
        replica = self.on(shape)
        if replica is None:
            return self.roofline.saturated_ttft_ms(
                shape, concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
            )
        first, _ = replica.closed_loop_ms(
            concurrency=concurrency, input_tokens=input_tokens, output_tokens=output_tokens
        )
        return first

    def confidence(self, shape: Shape) -> Confidence:
        """Say where the numbers for ``shape`` come from and how far they may be off."""
        if not self.calibrated.knows(shape):
            return self.roofline.confidence(shape)
        known = self.calibrated.confidence(shape)
        if len(self.table.rows_of(shape)) >= ENOUGH_ROWS:
            return dataclasses.replace(known, source="measured")
        return known

    def estimate(
        self, shape: Shape, *, concurrency: float, input_tokens: float, output_tokens: float
    ) -> Estimate:
        """Give the mean times that a closed loop of ``concurrency`` clients would measure."""
        replica = self.on(shape)
        load = {"concurrency": concurrency, "input_tokens": input_tokens, "output_tokens": output_tokens}
        if replica is None:
            return Estimate(
                ttft_ms=self.roofline.saturated_ttft_ms(shape, **load),
                itl_ms=self.roofline.itl_ms(shape, **load),
                confidence=self.roofline.confidence(shape),
            )
        found = self.table.look_up(shape, replica, **load)
        if found is None:
            first, between = replica.closed_loop_ms(**load)
            known, wider = self.calibrated.confidence(shape), self.calibrated.widening(**load)
            return Estimate(
                ttft_ms=first,
                itl_ms=between,
                confidence=dataclasses.replace(
                    known, itl_error=wider * known.itl_error, ttft_error=wider * known.ttft_error
                ),
            )
        measured = Confidence(source="measured", itl_error=found.itl_error, ttft_error=found.ttft_error)
        return Estimate(ttft_ms=found.ttft_ms, itl_ms=found.itl_ms, confidence=measured)


@functools.cache
def default_model() -> BestKnown:
    """Give the model made from the data folder, which keeps what it has worked out."""
    return BestKnown()
