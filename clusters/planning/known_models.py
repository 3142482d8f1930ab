"""Well-known models by name, however people and registries write it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import re
from typing import Any, Final

from clusters.planning.architecture import Architecture, architecture_from
from clusters.planning.problem import Precision

#: Endings of a name that say how a checkpoint was tuned or stored, not how it is built.
_ENDINGS: Final = re.compile(
    r"[-_.](instruct|chat|it|base|hf|thinking|reasoning|preview|dynamic|quantized|block|channel"
    r"|fp8|fp4|nvfp4|mxfp4|bf16|fp16|int4|int8|awq|gptq|w4a16|w8a8|w8a16|kv|v[0-9]+(\.[0-9]+)*|[0-9]{4})$"
)

#: What an ending says of the precision.
_PRECISIONS: Final = {
    "fp8": Precision.FP8,
    "fp4": Precision.NVFP4,
    "nvfp4": Precision.NVFP4,
    "mxfp4": Precision.NVFP4,
    "int4": Precision.INT4,
    "awq": Precision.INT4,
    "gptq": Precision.INT4,
    "w4a16": Precision.INT4,
    "bf16": Precision.BF16,
    "fp16": Precision.BF16,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model's numbers, and the precision that its checkpoint of this name is stored in."""

    name: str
    architecture: Architecture
    precision: Precision


@functools.lru_cache(maxsize=1024)
def known_model(name: str) -> KnownModel | None:
    """Find a model by its Hugging Face name, with or without organisation, case and endings such as -FP8."""
    rest = name.strip().rpartition("/")[2].lower().removeprefix("meta-")
    stored: Precision | None = None
    while True:
        entry = _catalog().get(rest)
        if entry is not None:
            return entry if stored is None else dataclasses.replace(entry, precision=stored)
        ending = _ENDINGS.search(rest)
        if ending is None:
            return None
        stored = stored or _PRECISIONS.get(ending[1])
        rest = rest[: ending.start()]


def known_names() -> list[str]:
    """Give the names of all known models."""
    return sorted({entry.name for entry in _catalog().values()}, key=str.lower)


@functools.cache
def _catalog() -> dict[str, KnownModel]:
    text = importlib.resources.files("clusters.planning").joinpath("data/models.json").read_text("utf-8")
    models: dict[str, dict[str, Any]] = json.loads(text)
    found = {}
    for name, numbers in models.items():
        entry = KnownModel(
            name=name,
            architecture=architecture_from(numbers),
            precision=Precision(numbers.get("precision", "bf16")),
        )
        for known in (name, *numbers.get("names", ())):
            found[known.lower()] = entry
    return found
