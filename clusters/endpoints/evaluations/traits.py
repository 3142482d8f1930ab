"""What of a revision its answers depend on, and which changes of it want an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.endpoints.planning import OrderTerms
from clusters.models import Revision
from clusters.planning.plans import Configuration
from clusters.specs import Weights

UNKNOWN = "unknown"


def quality_of(revision: Revision) -> dict[str, Any]:
    """Give what of a revision its answers depend on, in the words of people."""
    try:
        spec = kept_spec(revision)
        model, weights, kv = spec.model, weights_told(spec.weights), spec.tuning.kv_cache_dtype
    except SpecUnusable:
        model = weights = kv = UNKNOWN
    return {
        "model": model,
        "weights": weights,
        "weight precision": revision.precision,
        "KV precision": kv,
        "context cap": revision.context_tokens,
    }


def weights_told(weights: Weights) -> str:
    """Name the checkpoint that an engine serves and what was made of it."""
    return " ".join(filter(None, (weights.uri, weights.revision, weights.quantize))) or str(weights.kind)


def changed_quality(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say what changes so that answers may be others: all of it but a context cap that is lowered."""
    found = [
        f"{name} {before[name]} -> {after[name]}"
        for name in ("model", "weights", "weight precision", "KV precision")
        if before[name] != after.get(name, before[name])
    ]
    if after["context cap"] > before["context cap"]:
        found.append(f"context cap {before['context cap']:,} -> {after['context cap']:,}")
    return found


def planned_changes(current: Revision, chosen: Configuration, terms: OrderTerms) -> list[str]:
    """Say the same of what is planned in the place of ``current``, as far as a plan says it."""
    after = {
        "model": terms.model.name,
        "weight precision": chosen.precision.value,
        "KV precision": chosen.tuning.kv_cache_dtype,
        "context cap": terms.context_tokens or terms.model.context_tokens,
    }
    return changed_quality(quality_of(current), after)
