"""The GPU types Berth knows: whole ones from the data file beside this module, and MIG parts of them."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final

from clusters.planning.problem import GpuSpec

#: Types that differ from one of the data file in memory (GiB) and its bandwidth (GB/s) alone: NVIDIA's data sheets.
VARIANTS: Final = {
    "a100_sxm_40gb": ("a100_sxm", 40.0, 1555.0),
    "a100_pcie_40gb": ("a100_pcie", 40.0, 1555.0),
}

#: Compute slices of a GPU that MIG can divide; other types cannot be divided.
COMPUTE_SLICES: Final = {
    "a100_pcie": 7,
    "a100_pcie_40gb": 7,
    "a100_sxm": 7,
    "a100_sxm_40gb": 7,
    "a30": 4,
    "b200_sxm": 7,
    "b300_sxm": 7,
    "gb200": 7,
    "gb300": 7,
    "h100_pcie": 7,
    "h100_sxm": 7,
    "h200_sxm": 7,
    "rtx_pro_6000_server": 4,
}

#: Share of a profile's nominal memory that is there to use: 4.75 GiB of 1g.5gb, the worst of them.
SLICE_MEMORY: Final = 0.95

_PROFILE: Final = re.compile(r"(?P<compute>[1-7])g\.(?P<memory>[1-9][0-9]{0,2})gb(?:[+.](?P<extra>me|gfx))?")
_SLICE_NAME: Final = re.compile(
    r"(?P<gpu>[a-z0-9_]+)-(?P<compute>[1-7])g-(?P<memory>[0-9]+)gb(?:-(?P<extra>[a-z]+))?"
)


class GpuCatalog(Mapping[str, GpuSpec]):
    """GPU types by name. It iterates over whole GPUs and also finds their MIG parts, ``h100_sxm-1g-10gb``."""

    def __init__(self, whole: Mapping[str, GpuSpec]) -> None:
        self._whole = dict(whole)

    def __getitem__(self, name: str) -> GpuSpec:
        if name in self._whole:
            return self._whole[name]
        parts = _SLICE_NAME.fullmatch(name)
        if parts is None or parts["gpu"] not in self._whole:
            raise KeyError(name)
        extra = f"+{parts['extra']}" if parts["extra"] else ""
        try:
            return mig_slice(self._whole[parts["gpu"]], f"{parts['compute']}g.{parts['memory']}gb{extra}")
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)


@functools.cache
def gpu_catalog() -> GpuCatalog:
    """Give every known GPU type by name, for instance ``h100_sxm``; MIG parts are found by theirs."""
    text = importlib.resources.files("clusters.planning").joinpath("data/gpu_specs.json").read_text("utf-8")
    specs: dict[str, dict[str, float]] = json.loads(text)
    whole = {
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
        for name, spec in specs.items()
    }
    for name, (like, memory_gib, bandwidth_gbs) in VARIANTS.items():
        whole[name] = dataclasses.replace(
            whole[like], name=name, memory_gib=memory_gib, bandwidth_gbs=bandwidth_gbs
        )
    return GpuCatalog(dict(sorted(whole.items())))


def mig_slice(spec: GpuSpec, profile: str) -> GpuSpec:
    """Give the part of a GPU that a MIG profile makes, for instance ``1g.10gb``.

    Compute follows the profile's share of the compute slices. Memory bandwidth follows its share of the memory,
    which comes in eighths, in quarters where a GPU has four slices. What a process takes for itself is not less
    in a part. See NVIDIA's Multi-Instance GPU user guide, supported profiles.

    Raises:
        ValueError: the profile is none, or the GPU cannot be divided so.
    """
    parts, slices = _PROFILE.fullmatch(profile), COMPUTE_SLICES.get(spec.name)
    if parts is None:
        raise ValueError(f"{profile!r} is no MIG profile")
    compute, memory = int(parts["compute"]), int(parts["memory"])
    if slices is None or compute > slices or memory > spec.memory_gib * 1.1:
        raise ValueError(f"{spec.name} has no MIG profile {profile}")
    share_of_memory = float(_share_of_memory(spec, slices, memory))
    share = compute / slices
    extra = f"-{parts['extra']}" if parts["extra"] else ""
    return dataclasses.replace(
        spec,
        name=f"{spec.name}-{compute}g-{memory}gb{extra}",
        memory_gib=round(memory * SLICE_MEMORY, 2),
        bandwidth_gbs=round(spec.bandwidth_gbs * share_of_memory, 2),
        bf16_tflops=spec.bf16_tflops * share,
        fp8_tflops=spec.fp8_tflops * share,
        fp4_tflops=spec.fp4_tflops * share,
        power_w=round(spec.power_w * share),
        gpus_per_node=spec.gpus_per_node * slices,
        slice_of=spec.name,
    )


def part_of_whole(name: str) -> tuple[str, Fraction]:
    """Give the MIG profile of a GPU type and which part of a whole GPU it is; empty and 1 for a whole one.

    The part is the greater of its shares of compute slices and of memory: what of the GPU nobody else can have. So
    seven of 1g.10gb are one H100, and so are two of 3g.40gb.
    """
    parts = _SLICE_NAME.fullmatch(name)
    if parts is None or name not in gpu_catalog():
        return "", Fraction(1)
    whole = gpu_catalog()[parts["gpu"]]
    slices = COMPUTE_SLICES[whole.name]
    compute, memory = int(parts["compute"]), int(parts["memory"])
    extra = f"+{parts['extra']}" if parts["extra"] else ""
    share = max(Fraction(compute, slices), _share_of_memory(whole, slices, memory))
    return f"{compute}g.{memory}gb{extra}", min(share, Fraction(1))


def _share_of_memory(spec: GpuSpec, slices: int, memory: int) -> Fraction:
    parts = 8 if slices == 7 else 4
    return Fraction(max(1, round(parts * memory / spec.memory_gib)), parts)
