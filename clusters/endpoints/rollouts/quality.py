"""What of a revision its answers depend on, and whether an earlier one may serve again without being asked."""

from __future__ import annotations

from typing import Any

from clusters.endpoints.blueprint import SpecUnusable, kept_spec
from clusters.models import Revision, Rollout


def served_before(rollout: Rollout) -> bool:
    """Say whether the new revision is an earlier one run again, which was let serve then: it needs no evaluation."""
    revision = rollout.revision
    if revision is None or revision.restored_from is None:
        return False
    earlier = Rollout.objects.filter(endpoint=rollout.endpoint_id, revision__number=revision.restored_from)
    return not earlier.exclude(phase=Rollout.Phase.PROMOTED).exists()


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
