"""The language model that ships with Berth: an n-gram model of Berth's own guide.

It is small on purpose. It needs no download and no GPU, answers in microseconds, and honours
everything a request may ask of a large model, so that all of Berth can be tried on any machine.
"""

from __future__ import annotations

import dataclasses
from typing import Final


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a catalog says about the model. ``parameters`` is rounded: it follows the guide's text."""

    name: str
    title: str
    description: str
    method: str
    order: int
    vocabulary: int
    context_tokens: int
    parameters: int
    artifact_bytes: int
    licence: str
    runtimes: tuple[str, ...]
    chat_template: str


CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['content'] | trim }}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n\n' }}{% endif %}{% endfor %}"
)
"""Joins what was said into one text. The model learned questions, each with its answer in the next
paragraph, so the blank line after the last message is what invites an answer."""

CATALOG: Final = ModelFacts(
    name="berth-docs-ngram",
    title="Berth guide n-gram",
    description=(
        "A 6-gram language model with Kneser-Ney smoothing over byte-level BPE tokens, learned from "
        "Berth's own guide. It is not a neural network: it continues a text with what the guide says in "
        "similar places. Ask it a question from the guide, or use it to try out endpoints, streaming and "
        "billing."
    ),
    method="n-gram, interpolated Kneser-Ney",
    order=6,
    vocabulary=2048,
    context_tokens=2048,
    parameters=55_000,
    artifact_bytes=800_000,
    licence="Apache-2.0",
    runtimes=("triton-python",),
    chat_template=CHAT_TEMPLATE,
)
