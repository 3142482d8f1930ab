"""Whether a change needs an evaluation before it may serve anybody."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.models import Revision, Rollout


class Evaluated(enum.StrEnum):
    """How the evaluation of a new revision stands."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"
    NOT_NEEDED = "not-needed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationVerdict:
    """How the evaluation stands, and why."""

    state: Evaluated
    reason: str = ""


def evaluation_verdict(rollout: Rollout) -> EvaluationVerdict:
    """Say how the evaluation of a rollout's new revision stands."""
    reasons = evaluation_reasons(rollout)
    if not reasons:
        return EvaluationVerdict(state=Evaluated.NOT_NEEDED)
    return EvaluationVerdict(
        state=Evaluated.NOT_NEEDED, reason=f"No evaluation set is kept: {'; '.join(reasons)}."
    )


def evaluation_reasons(rollout: Rollout) -> list[str]:
    """Give what changes that answers may depend on; nothing where an earlier revision runs again as it was."""
    if rollout.revision is None or rollout.revision.restored_from is not None:
        return []
    return changed_quality(quality_of(rollout.before), quality_of(rollout.revision))


def changed_quality(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say what of model, precision, KV precision and context cap changes so that answers may be others."""
    found = [
        f"{name} {before[name]} -> {after[name]}"
        for name in ("model", "weight precision", "KV precision")
        if before[name] != after[name]
    ]
    if after["context cap"] > before["context cap"]:
        found.append(f"context cap {before['context cap']} -> {after['context cap']}")
    return found


def quality_of(revision: Revision) -> dict[str, Any]:
    """Give what of a revision its answers depend on."""
    try:
        spec = kept_spec(revision)
        model, kv = spec.model, spec.tuning.kv_cache_dtype
    except SpecUnusable:
        model, kv = "unknown", "unknown"
    return {
        "model": model,
        "weight precision": revision.precision,
        "KV precision": kv,
        "context cap": revision.context_tokens,
    }
