"""A model's architecture in the numbers that memory and speed follow from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final


class ArchitectureError(ValueError):
    """Numbers that no model has; ``field`` names the one to mend."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """Numbers of a decoder. Those that a model does not have are 0.

    ``parameters_active`` is what one token passes through; for a dense model it equals ``parameters_total``.
    ``mlp_size`` is the width of a dense layer's MLP. Of ``experts`` in each layer a token takes
    ``experts_active``, each ``expert_size`` wide, besides ``shared_experts``; the first ``dense_layers`` have none.
    With multi-head latent attention ``latent_size`` numbers are cached for a token and layer (rank and rotary
    part), whatever the heads. ``window_layers`` look back ``window_tokens`` at most; ``linear_layers`` keep a
    state of ``linear_state`` numbers for a request, which does not grow with the context. Sparse attention reads
    ``sparse_tokens`` of the context at most, though it keeps all. ``tied_embeddings`` is 1 where one table serves
    input and output.
    """

    parameters_total: int
    parameters_active: int
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    mlp_size: int = 0
    experts: int = 0
    experts_active: int = 0
    expert_size: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    latent_size: int = 0
    window_tokens: int = 0
    window_layers: int = 0
    linear_layers: int = 0
    linear_state: int = 0
    sparse_tokens: int = 0
    tied_embeddings: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 1 if field.default is dataclasses.MISSING else 0
            if getattr(self, field.name) < least:
                raise ArchitectureError(field.name, f"{field.name} must be at least {least}")
        if self.experts_active > self.experts:
            raise ArchitectureError("experts_active", "more experts are active than there are")
        if self.parameters_active > self.parameters_total:
            raise ArchitectureError("parameters_active", "more parameters are active than there are")
        if self.window_layers + self.linear_layers > self.layers:
            raise ArchitectureError("window_layers", "more layers have a window or a state than there are")

    @property
    def is_mixture(self) -> bool:
        """Whether a token passes through a part of the parameters only."""
        return self.parameters_active < self.parameters_total

    @property
    def expert_layers(self) -> int:
        """Layers that have experts."""
        return max(0, self.layers - self.dense_layers) if self.experts else 0

    @property
    def expert_parameters(self) -> int:
        """Parameters of all routed experts; of a mixture whose experts nobody told, all that may be idle."""
        if self.experts:
            each = GATED * self.hidden_size * self.expert_size
            return min(self.parameters_total, self.expert_layers * self.experts * each)
        return self.parameters_total if self.is_mixture else 0

    @property
    def expert_share(self) -> float:
        """Share of the routed experts that one token passes through."""
        if self.experts:
            return self.experts_active / self.experts
        return self.parameters_active / self.parameters_total

    @property
    def cached_layers(self) -> int:
        """Layers whose cache grows with the whole context."""
        return self.layers - self.window_layers - self.linear_layers


#: Matrices of an MLP with a gate, and of one without.
GATED: Final = 3
PLAIN: Final = 2

#: Families of configurations whose MLP has no gate.
_PLAIN_FAMILIES: Final = frozenset(
    {
        "bloom",
        "falcon",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "gptj",
        "mpt",
        "nemotron",
        "opt",
        "phi",
        "starcoder2",
    }
)

#: Our names, then those of the catalog and of Hugging Face's ``config.json``, first found first used.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "parameters_total": ("parameters_total", "parameters"),
    "parameters_active": ("parameters_active", "active_parameters"),
    "layers": ("layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "hidden", "n_embd", "d_model", "hidden_dim"),
    "heads": ("heads", "num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("kv_heads", "num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "head_size": ("head_size", "head_dim"),
    "vocabulary": ("vocabulary", "vocab_size", "padded_vocab_size"),
    "mlp_size": ("mlp_size", "intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner"),
    "experts": ("experts", "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "experts_active": (
        "experts_active",
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "moe_top_k",
        "top_k_experts",
    ),
    "expert_size": ("expert_size", "moe_intermediate_size", "expert_ffn_hidden_size"),
    "shared_experts": ("shared_experts", "n_shared_experts", "num_shared_experts"),
    "dense_layers": ("dense_layers", "first_k_dense_replace", "num_dense_layers"),
    "latent_size": ("latent_size",),
    "window_tokens": ("window_tokens", "sliding_window", "attention_window_size"),
    "window_layers": ("window_layers",),
    "linear_layers": ("linear_layers",),
    "linear_state": ("linear_state",),
    "sparse_tokens": ("sparse_tokens", "index_topk"),
    "tied_embeddings": ("tied_embeddings",),
}

#: Where a multimodal model's configuration keeps the numbers of its decoder.
_NESTED: Final = ("text_config", "llm_config", "language_config")


def architecture_from(numbers: Mapping[str, Any]) -> Architecture:
    """Read an architecture from our own names, the catalog's short ones, or a Hugging Face ``config.json``.

    Parameter counts that are not given are derived from the other numbers: embeddings, attention (grouped or
    latent), linear layers, MLPs and experts, without biases and norms.

    Raises:
        ArchitectureError: a number is missing, is no whole number, or contradicts another.
    """
    for name in _NESTED:
        nested = numbers.get(name)
        if isinstance(nested, Mapping):
            numbers = {**numbers, **nested}
    read = _Reader(numbers)
    found = {field: read.number(field, *names) for field, names in _NAMES.items()}
    given = {field: value for field, value in found.items() if value is not None}
    for field in ("layers", "hidden_size", "heads", "vocabulary"):
        if not given.get(field):
            known = ", ".join(_NAMES[field])
            raise ArchitectureError(field, f"{field} is missing: give it as one of {known}")
    heads, hidden = given["heads"], given["hidden_size"]
    if read.flag("multi_query") and not read.flag("new_decoder_architecture"):
        given["kv_heads"] = 1
    given.setdefault("kv_heads", heads)
    if not given.get("head_size"):
        latent_head = read.count("qk_nope_head_dim") + read.count("qk_rope_head_dim")
        if not latent_head and hidden % heads:
            raise ArchitectureError("head_size", "head_size is missing, and heads do not divide hidden_size")
        given["head_size"] = latent_head or hidden // heads
    if read.count("kv_lora_rank"):
        given.setdefault("latent_size", read.count("kv_lora_rank") + read.count("qk_rope_head_dim"))
        given["head_size"] = (
            read.count("qk_nope_head_dim") + read.count("qk_rope_head_dim") or given["head_size"]
        )
    _read_experts(read, given)
    _read_layers(read, given)
    if read.flag("tie_word_embeddings"):
        given.setdefault("tied_embeddings", 1)
    if not given.get("parameters_total"):
        given["parameters_total"] = _parameters(read, given)
    if not given.get("parameters_active"):
        idle = given.get("experts", 0) - given.get("experts_active", 0)
        expert_layers = given["layers"] - given.get("dense_layers", 0)
        asleep = idle * expert_layers * GATED * hidden * given.get("expert_size", 0)
        given["parameters_active"] = given["parameters_total"] - asleep
    return Architecture(**given)


class _Reader:
    """Looks numbers up under their several names."""

    def __init__(self, numbers: Mapping[str, Any]) -> None:
        self._numbers = numbers

    def number(self, field: str, *names: str) -> int | None:
        for name in names:
            value = self._numbers.get(name)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ArchitectureError(field, f"{name} must be a whole number, not {value!r:.40}")
            return value
        return None

    def count(self, name: str) -> int:
        return self.number(name, name) or 0

    def flag(self, name: str) -> bool:
        return self._numbers.get(name) is True

    def denied(self, name: str) -> bool:
        return self._numbers.get(name) is False

    def text(self, name: str) -> str:
        value = self._numbers.get(name)
        return value if isinstance(value, str) else ""

    def listed(self, name: str) -> list[Any]:
        value = self._numbers.get(name)
        return list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else []


def _read_experts(read: _Reader, given: dict[str, int]) -> None:
    if not given.get("experts"):
        for name in ("experts", "experts_active", "expert_size", "shared_experts", "dense_layers"):
            given.pop(name, None)
        return
    if not given.get("experts_active"):
        known = ", ".join(_NAMES["experts_active"])
        raise ArchitectureError("experts_active", f"experts_active is missing beside experts: one of {known}")
    given.setdefault("expert_size", given.get("mlp_size", 0))
    if not given["expert_size"]:
        raise ArchitectureError("expert_size", "expert_size is missing beside experts")
    shared = read.count("shared_expert_intermediate_size")
    if shared and "shared_experts" not in given:
        given["shared_experts"] = max(1, round(shared / given["expert_size"]))
    every = read.count("interleave_moe_layer_step") or read.count("decoder_sparse_step")
    if every > 1 and "dense_layers" not in given:
        given["dense_layers"] = given["layers"] - given["layers"] // every
        given["mlp_size"] = read.count("intermediate_size_mlp") or given.get("mlp_size", 0)
    frequency = read.listed("moe_layer_freq")
    if frequency and "dense_layers" not in given:
        given["dense_layers"] = sum(1 for has_experts in frequency if not has_experts)


def _read_layers(read: _Reader, given: dict[str, int]) -> None:
    """Tell layers with a window or a linear state from the others."""
    layers, kinds = given["layers"], read.listed("layer_types")
    pattern = read.text("hybrid_override_pattern")
    interval, local = read.count("full_attention_interval"), read.count("sliding_window_pattern")
    family = read.text("model_type")
    if kinds:
        given.setdefault("linear_layers", sum("linear" in str(kind) for kind in kinds))
    elif pattern:
        given.setdefault("linear_layers", layers - pattern.count("*"))
    elif interval > 1:
        given.setdefault("linear_layers", layers - layers // interval)
    if not given.get("linear_state"):
        size = read.count("linear_key_head_dim") * read.count("linear_value_head_dim")
        size = size or read.count("mamba_head_dim") * read.count("ssm_state_size")
        state = size * (read.count("linear_num_value_heads") or read.count("mamba_num_heads"))
        if state:
            given["linear_state"] = state
    if "window_layers" not in given and given.get("window_tokens"):
        if read.denied("use_sliding_window"):
            windows = 0
        elif kinds:
            windows = sum("sliding" in str(kind) or "chunked" in str(kind) for kind in kinds)
        elif local > 1:
            windows = layers - layers // local
        else:
            windows = layers // 2 if family == "gemma2" else layers
        given["window_layers"] = windows
    if not given.get("window_layers"):
        given.pop("window_tokens", None)
        given.pop("window_layers", None)


def _parameters(read: _Reader, given: Mapping[str, int]) -> int:
    layers, hidden = given["layers"], given["hidden_size"]
    matrices = PLAIN if read.text("model_type") in _PLAIN_FAMILIES else GATED
    experts, dense = given.get("experts", 0), given.get("dense_layers", 0)
    mlp = given.get("mlp_size") or 4 * hidden
    linear = given.get("linear_layers", 0)
    total = (1 if given.get("tied_embeddings") else 2) * given["vocabulary"] * hidden
    total += (layers - linear) * _attention_parameters(read, given) + linear * _linear_parameters(read, given)
    if not experts:
        return total + layers * matrices * hidden * mlp
    each = GATED * hidden * given["expert_size"]
    total += dense * matrices * hidden * mlp
    total += (layers - dense) * ((experts + given.get("shared_experts", 0)) * each + hidden * experts)
    return total


def _attention_parameters(read: _Reader, given: Mapping[str, int]) -> int:
    hidden, heads, size = given["hidden_size"], given["heads"], given["head_size"]
    rank = read.count("kv_lora_rank")
    if rank:
        rope, value = read.count("qk_rope_head_dim"), read.count("v_head_dim") or size
        query_rank = read.count("q_lora_rank")
        query = query_rank * (hidden + heads * size) if query_rank else hidden * heads * size
        return query + hidden * (rank + rope) + rank * heads * (size - rope + value) + heads * value * hidden
    gates = 1 if read.flag("attn_output_gate") else 0
    return hidden * size * (heads * (2 + gates) + 2 * given["kv_heads"])


def _linear_parameters(read: _Reader, given: Mapping[str, int]) -> int:
    hidden = given["hidden_size"]
    keys = read.count("linear_num_key_heads") * read.count("linear_key_head_dim")
    values = read.count("linear_num_value_heads") * read.count("linear_value_head_dim")
    return hidden * (2 * keys + 3 * values) or _attention_parameters(read, given)
