"""Why a replica does not come up, in people's words: what it means and what to do."""

from __future__ import annotations

import dataclasses
from typing import Final

from clusters.specs import Trouble


@dataclasses.dataclass(frozen=True)
class Told:
    """A trouble told to people: ``title`` in a few words, then what to do about it."""

    title: str
    remedy: str


TROUBLES: Final[dict[str, Told]] = {
    Trouble.UNSCHEDULABLE: Told(
        "No node takes it",
        "Wait for GPUs, or ask the operators: a taint, a selector or a quota of the cluster keeps it off.",
    ),
    Trouble.IMAGE_PULL: Told(
        "Its image cannot be pulled",
        "Operators: check the image's reference and digest, the registry and the cluster's pull secret.",
    ),
    Trouble.WEIGHTS: Told(
        "Its weights could not be fetched",
        "Check the address of the weights and the secret for fetching them; the log's tail names the refusal.",
    ),
    Trouble.BUILD: Told(
        "Its engine could not be built",
        "The log's tail names the step; often the GPU is too small for the limits, or the model is not supported.",
    ),
    Trouble.OUT_OF_MEMORY: Told(
        "It ran out of memory",
        "Order a shorter context or smaller batches; operators can lower the KV cache's share of the class.",
    ),
    Trouble.CRASH_LOOP: Told("Its engine stops again and again", "Read the end of its log."),
    Trouble.REFUSED: Told(
        "The cluster refused it",
        "Operators: an admission policy or a quota of the cluster says no; its message is beside this.",
    ),
    Trouble.NODE: Told(
        "Its node is faulty", "Nothing to do: Berth replaces the replica elsewhere and its cost ends."
    ),
    Trouble.GAVE_UP: Told(
        "Berth has stopped trying", "Read the reason, mend it, then pause and resume the endpoint."
    ),
}
