"""The tokens that an engine itself counted, for runtimes whose counters are true.

``trtllm-serve`` and the C++ backend of TensorRT-LLM (``triton-engine``) sum the tokens of every request they ran.
Triton's own counters are of requests, count failed and cancelled ones of decoupled models as successes, and know no
tokens (triton-inference-server/server 8463, 8521), so that of the other runtimes nothing is read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from clusters.triton.metrics_text import samples, summed

_COUNTERS: Final = {
    "trtllm-serve": ("trtllm_prompt_tokens_total", "trtllm_generation_tokens_total"),
    "triton-engine": ("nv_llm_input_token_len_sum", "nv_llm_output_token_len_sum"),
}

#: Runtimes that count tokens, and truly.
RUNTIMES: Final = frozenset(_COUNTERS)


class EngineTokens(NamedTuple):
    """Tokens since the engine started."""

    input: int
    output: int


def tokens_of(metrics_text: str, runtime: str) -> EngineTokens | None:
    """Read the counters from an engine's Prometheus text; None where it has none that are true."""
    names = _COUNTERS.get(runtime)
    if names is None:
        return None
    found = list(samples(metrics_text))
    read, written = (summed(found, name) for name in names)
    if read is None or written is None or read < 0 or written < 0:
        return None
    return EngineTokens(round(read), round(written))
