"""How a class of service runs its engines, before an operator changes anything."""

from __future__ import annotations

from typing import Final

from clusters.specs import Tuning

BATCH: Final = ("batch", "bulk", "offline")
"""Names of classes whose requests nobody waits for."""


def defaults_for(slo_class_name: str, *, ttft_bound: bool, itl_bound: bool) -> Tuning:
    """Give the row of the operators' table that a new class starts with.

    ``ttft_bound`` and ``itl_bound`` say whether the class promises a time to the first token and a time
    between tokens. A class that promises neither, or is named as a batch class, is run for throughput.

    With a promise:

    - ``max_num_tokens`` small: an iteration computes that many tokens, prompts included, and every stream
      waits for its end. 2048 for a promise between tokens; 4096 where only the first token is promised,
      since a long prompt then needs fewer iterations.
    - ``chunked_prefill`` on: a long prompt is spread over iterations in place of filling one.
    - ``GUARANTEED_NO_EVICT``: what has begun is never put back, which a stream would feel as a stall.
    - ``kv_cache_fraction`` 0.85: room for the peaks of activations; running out ends every stream at once.
    - ``kv_cache_dtype`` of the model: no loss of quality that nobody asked for.
    - ``stream_interval`` 1: every token is sent when it is there.
    - ``drain_s`` 60: longer than most answers of a conversation.

    Without:

    - ``max_num_tokens`` 16384 and no bound on the batch beyond the plan's: the GPU is best used full.
    - ``MAX_UTILIZATION``: takes requests before all of their cache is sure, and puts some back; throughput
      grows, single requests may stall.
    - ``kv_cache_dtype`` fp8: twice the requests in the same memory. All GPUs from Ampere on can store it.
    - ``stream_interval`` 8: fewer, larger pieces cost less of the processors' time.
    - ``drain_s`` 600: an answer may be long, and one broken off is computed again whole.
    """
    if slo_class_name in BATCH or not (ttft_bound or itl_bound):
        return Tuning(
            max_num_tokens=16384,
            scheduler_policy="MAX_UTILIZATION",
            kv_cache_fraction=0.92,
            kv_cache_dtype="fp8",
            stream_interval=8,
            drain_s=600,
        )
    return Tuning(
        # A smaller batch makes every iteration shorter.
        max_batch_size=64 if itl_bound else 128,
        max_num_tokens=2048 if itl_bound else 4096,
        scheduler_policy="GUARANTEED_NO_EVICT",
        kv_cache_fraction=0.85,
        drain_s=60,
    )
