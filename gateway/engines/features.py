"""What engines can do beyond text, by the words of ``Replica.features``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway import errors
from gateway.contract import Endpoint, EngineProtocol

CHAT: Final = "chat"
TOOLS: Final = "tools"
PARALLEL_TOOL_CALLS: Final = "parallel_tool_calls"
RESPONSE_FORMAT: Final = "response_format"
LOGPROBS: Final = "logprobs"
LOGIT_BIAS: Final = "logit_bias"
EMBEDDINGS: Final = "embeddings"
DIMENSIONS: Final = "dimensions"
#: Nobody asks for these: they are used where they are known.
CACHE_SALT: Final = "cache_salt"
PRIORITY: Final = "priority"

ENGINES: Final[Mapping[EngineProtocol, str]] = {
    EngineProtocol.TRITON_GENERATE: "Triton (generate)",
    EngineProtocol.OPENAI_HTTP: "trtllm-serve (OpenAI HTTP)",
}


def require(endpoint: Endpoint, needs: Mapping[str, str]) -> None:
    """Check that some replica of ``endpoint`` has all features of ``needs``, which gives the parameter of each.

    An endpoint without replicas passes: what it could do is not known.

    Raises:
        ApiError: none has; it names the engine and the parameter (400).
    """
    replicas = [replica for route in endpoint.routes if route.weight > 0 for replica in route.replicas]
    if not needs or not replicas or any(needs.keys() <= set(replica.features) for replica in replicas):
        return
    known = {feature for replica in replicas for feature in replica.features}
    missing = next((feature for feature in needs if feature not in known), next(iter(needs)))
    engines = " and ".join(sorted({ENGINES[replica.protocol] for replica in replicas}))
    param = needs[missing]
    raise errors.unsupported(
        param, f"{param} is not supported by {engines}, the engine of endpoint {endpoint.name}; leave it out."
    )
