"""The GPU types Berth knows, from the data file beside this module."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from types import MappingProxyType

from clusters.planning.problem import GpuSpec


@functools.cache
def gpu_catalog() -> Mapping[str, GpuSpec]:
    """Give every known GPU type by name, for instance ``h100_sxm``."""
    text = importlib.resources.files("clusters.planning").joinpath("data/gpu_specs.json").read_text("utf-8")
    specs: dict[str, dict[str, float]] = json.loads(text)
    return MappingProxyType(
        {
            name: GpuSpec(
                name=name,
                memory_gib=spec["mem_gib"],
                bandwidth_gbs=spec["bw_gbs"],
                bandwidth_efficiency=spec["bw_eff"],
                bf16_tflops=spec["bf16_tflops"],
                fp8_tflops=spec["fp8_tflops"],
                fp4_tflops=spec["fp4_tflops"],
                intra_node_gbs=spec["intra_gbs"],
                inter_node_gbs=spec["inter_gbs"],
                gpus_per_node=int(spec["gpus_per_node"]),
                reserved_gib=spec["other_mem_gb"],
                power_w=int(spec["power_w"]),
            )
            for name, spec in sorted(specs.items())
        }
    )
