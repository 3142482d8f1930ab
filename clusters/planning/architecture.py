"""A model's architecture in the numbers that memory and speed follow from."""

from __future__ import annotations

import dataclasses


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
    state that does not grow with the context.
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

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = 1 if field.default is dataclasses.MISSING else 0
            if getattr(self, field.name) < least:
                raise ArchitectureError(field.name, f"{field.name} must be at least {least}")
        if self.parameters_active > self.parameters_total:
            raise ArchitectureError("parameters_active", "more parameters are active than there are")

    @property
    def is_mixture(self) -> bool:
        """Whether a token passes through a part of the parameters only."""
        return self.parameters_active < self.parameters_total
