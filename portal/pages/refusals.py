"""Why candidates were not chosen, as a table that a tenant understands: what, where, why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from clusters.planning.plans import Reason, Refusal
from portal.templatetags.berth import sentence

#: Names of the reasons.
REASONS: Final = {
    Reason.RESIDENCY: "Residency",
    Reason.CERTIFICATION: "Certification",
    Reason.MODEL_ZONE: "Licence",
    Reason.WEIGHTS_LOCATION: "Where the weights are",
    Reason.PINNED: "Pinned otherwise",
    Reason.RUNTIME: "Runtime",
    Reason.IMAGE: "Runtime's image",
    Reason.DRIVER: "NVIDIA driver",
    Reason.POLICY: "Policy",
    Reason.PRECISION: "Precision",
    Reason.QUALITY: "Quality",
    Reason.NODE_SIZE: "Size of a node",
    Reason.DOMINATED: "A better shape",
    Reason.MEMORY: "Memory",
    Reason.ITL: "Time between tokens",
    Reason.TTFT: "Time to first token",
    Reason.REPLICAS: "Replicas",
    Reason.POOL_SIZE: "Size of the pool",
    Reason.SPEND: "Policy: spend",
    Reason.QUOTA: "Quota",
    Reason.CLUSTER_STATE: "Cluster",
    Reason.CAPACITY: "Free GPUs",
    Reason.DEARER: "Price",
}

_STAGES: Final = {reason: stage for stage, reason in enumerate(Reason)}


def refusal_rows(refusals: Iterable[Refusal]) -> list[dict[str, str]]:
    """Give refusals as rows of ``components/refusals.html``, those that came furthest first."""
    ordered = sorted(refusals, key=lambda each: (-_STAGES[each.reason], each.gpu, each.pools))
    return [
        {
            "what": _what(each),
            "where": ", ".join(each.pools),
            "reason": REASONS[each.reason],
            "why": _why(each),
        }
        for each in ordered
    ]


def _what(refusal: Refusal) -> str:
    text = refusal.gpu
    if refusal.precision is not None:
        text += f" in {refusal.precision}"
    if refusal.tp is not None:
        text += f", TP {refusal.tp}"
    return text + (f" x PP {refusal.pp}" if (refusal.pp or 1) > 1 else "")


def _why(refusal: Refusal) -> str:
    """Give the message as a sentence, without what the other columns say already."""
    head, colon, rest = refusal.message.partition(": ")
    return sentence(rest if colon and head.startswith(refusal.gpu) else refusal.message)
