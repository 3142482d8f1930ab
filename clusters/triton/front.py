"""The front model's config.pbtxt: the same tensors whatever generates behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from clusters.triton import pbtxt

#: Name, type, dims and whether it may be left out, as in TensorRT-LLM's classic front model.
INPUTS: Final = (
    ("text_input", "TYPE_STRING", 1, False),
    ("max_tokens", "TYPE_INT32", 1, False),
    ("min_tokens", "TYPE_INT32", 1, True),
    ("stream", "TYPE_BOOL", 1, True),
    ("temperature", "TYPE_FP32", 1, True),
    ("top_k", "TYPE_INT32", 1, True),
    ("top_p", "TYPE_FP32", 1, True),
    ("seed", "TYPE_UINT64", 1, True),
    ("stop_words", "TYPE_STRING", -1, True),
    ("presence_penalty", "TYPE_FP32", 1, True),
    ("frequency_penalty", "TYPE_FP32", 1, True),
    ("exclude_input_in_output", "TYPE_BOOL", 1, True),
    ("return_num_input_tokens", "TYPE_BOOL", 1, True),
    ("return_num_output_tokens", "TYPE_BOOL", 1, True),
)
#: Keeps the prefix cache of whoever sends one salt apart from everybody else's.
CACHE_SALT: Final = ("cache_salt", "TYPE_STRING", 1, True)
#: The last two are additions: the classic model tells neither why it stopped nor what it reused.
OUTPUTS: Final = (
    ("text_output", "TYPE_STRING", 1),
    ("num_input_tokens", "TYPE_INT32", 1),
    ("num_output_tokens", "TYPE_INT32", 1),
    ("finish_reason", "TYPE_STRING", 1),
    ("num_cached_tokens", "TYPE_INT32", 1),
)


def config_pbtxt(
    name: str,
    *,
    parameters: Mapping[str, str],
    inputs: Sequence[tuple[str, str, int, bool]] = INPUTS,
) -> str:
    """Write the configuration of a decoupled model of the python backend."""
    return pbtxt.emit(
        {
            "name": name,
            "backend": "python",
            # Batching is the engine's own; Triton hands every request over at once.
            "max_batch_size": 0,
            "model_transaction_policy": {"decoupled": True},
            "input": [
                {
                    "name": tensor,
                    "data_type": pbtxt.Enum(data_type),
                    "dims": dims,
                    **({"optional": True} if optional else {}),
                }
                for tensor, data_type, dims, optional in inputs
            ],
            "output": [
                {"name": tensor, "data_type": pbtxt.Enum(data_type), "dims": dims}
                for tensor, data_type, dims in OUTPUTS
            ],
            # The python process holds no GPU of Triton's; what generates takes its GPUs itself.
            "instance_group": [{"count": 1, "kind": pbtxt.Enum("KIND_CPU")}],
            "parameters": [
                {"key": key, "value": {"string_value": value}} for key, value in parameters.items()
            ],
        }
    )
