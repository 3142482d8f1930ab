"""Engines as the performance model sees them: what runs, or what a plan would run, under a load."""

from __future__ import annotations

import dataclasses

from clusters.endpoints.blueprint import kept_spec
from clusters.inventory.catalog import architecture_of
from clusters.models import CatalogModel, Revision, SloClass
from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.best import default_model
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.performance.queueing import Latencies, latencies
from clusters.planning.plans import Configuration
from clusters.planning.problem import LoadProfile, Precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """A number of replicas of one shape."""

    shape: Shape
    replicas: int
    max_batch_size: int
    step_tokens: int

    @classmethod
    def of_plan(cls, chosen: Configuration, model: CatalogModel) -> Running:
        """Give what a plan would run."""
        return cls(
            shape=_shape(model, chosen.gpu, chosen.precision, chosen.tp, chosen.pp),
            replicas=chosen.replicas,
            max_batch_size=chosen.max_batch_size,
            step_tokens=chosen.tuning.max_num_tokens,
        )

    @classmethod
    def of_revision(cls, revision: Revision, model: CatalogModel) -> Running:
        """Give what a revision runs.

        Raises:
            SpecUnusable: it was written by another version.
        """
        return cls(
            shape=_shape(
                model,
                revision.gpu_type,
                Precision(revision.precision),
                revision.tensor_parallel,
                revision.pipeline_parallel,
            ),
            replicas=revision.replicas,
            max_batch_size=revision.max_batch_size,
            step_tokens=kept_spec(revision).tuning.max_num_tokens,
        )

    def under(self, load: LoadProfile, performance: PerformanceModel | None = None) -> Latencies:
        """Predict what requests of a load find."""
        return latencies(
            performance or default_model(),
            self.shape,
            load,
            replicas=max(1, self.replicas),
            batch_limit=self.max_batch_size,
            step_tokens=self.step_tokens,
        )


def keeps_targets(expected: Latencies, slo_class: SloClass) -> bool:
    """Say whether the p95s are within the class's targets, and no queue grows without end."""
    pairs = (
        (expected.ttft_p95_ms, slo_class.ttft_p95_ms),
        (expected.itl_p95_ms, slo_class.itl_p95_ms),
    )
    return expected.stable and all(target is None or time <= target for time, target in pairs)


def _shape(model: CatalogModel, gpu: str, precision: Precision, tp: int, pp: int) -> Shape:
    return Shape(
        architecture=architecture_of(model),
        gpu=gpu_catalog()[gpu],
        precision=precision,
        tp=tp,
        pp=pp,
    )
