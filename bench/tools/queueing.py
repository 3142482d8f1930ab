"""How far the queueing model is from a simulation of the same engine: a grid of loads, and a real trace replayed."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from bench.tools.figures import Figures, quantile
from clusters.planning.architecture import Architecture
from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.model import Shape
from clusters.planning.performance.queueing import Latencies, latencies
from clusters.planning.performance.roofline import Roofline
from clusters.planning.performance.simulation import Trace, simulate
from clusters.planning.problem import LoadProfile, Precision
from clusters.planning.profiles import NAMED, Lengths, burstiness_of

SEED: Final = 12
REQUESTS: Final = 6_000
SKIP: Final = 0.1  # of the requests, until the replica is as full as it will be
LOADS: Final = (0.2, 0.35, 0.5, 0.7, 0.85)
ENGINES: Final = ((256, 8192), (32, 2048))  # batch limit, tokens of a step
CALLS: Final = 500

TRACE: Final = Path(__file__).parents[3] / "shared/data/AzureLLMInferenceTrace_conv_2023.csv"
TRACE_LOADS: Final = (0.3, 0.5, 0.7)

_LLAMA_8B: Final = Architecture(
    parameters_total=8_030_000_000,
    parameters_active=8_030_000_000,
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    head_size=128,
    vocabulary=128_256,
)
_LLAMA_70B: Final = dataclasses.replace(
    _LLAMA_8B,
    parameters_total=70_550_000_000,
    parameters_active=70_550_000_000,
    layers=80,
    hidden_size=8192,
    heads=64,
)
_MIXTURE_47B: Final = dataclasses.replace(
    _LLAMA_8B, parameters_total=46_700_000_000, parameters_active=12_900_000_000
)
SHAPES: Final = (
    Shape(architecture=_LLAMA_8B, gpu=gpu_catalog()["h100_sxm"], precision=Precision.BF16, tp=1),
    Shape(architecture=_LLAMA_70B, gpu=gpu_catalog()["h100_sxm"], precision=Precision.FP8, tp=4),
    Shape(architecture=_MIXTURE_47B, gpu=gpu_catalog()["h200_sxm"], precision=Precision.BF16, tp=1),
)

#: What is compared, and as what it is shown.
COMPARED: Final = {
    "ttft_mean_ms": "ttft_mean",
    "ttft_p95_ms": "ttft_p95",
    "itl_mean_ms": "itl_mean",
    "itl_p95_ms": "itl_p95",
}


def measure() -> Figures:
    """Compare on steady named profiles, replay the trace, and time the queueing model."""
    return {**_grid(), **_replayed(), **_timed()}


def _grid() -> Figures:
    errors: dict[str, list[float]] = {name: [] for name in COMPARED}
    crowded: dict[str, list[float]] = {name: [] for name in COMPARED}
    for number, (shape, profile, load, (batch_limit, step_tokens)) in enumerate(_cases()):
        rate = load / _utilisation(shape, profile, batch_limit, step_tokens)
        asked = dataclasses.replace(profile, requests_per_second=rate)
        trace = Trace.draw(asked, requests=REQUESTS, rng=np.random.default_rng((SEED, number)))
        predicted, simulated = _both(shape, asked, trace, batch_limit, step_tokens)
        for name, error in _errors(predicted, simulated).items():
            errors[name].append(abs(error))
            if load == LOADS[-1]:
                crowded[name].append(abs(error))
    figures: Figures = {"grid_cases": len(errors["ttft_mean_ms"]), "grid_requests_each": REQUESTS}
    for name, shown in COMPARED.items():
        figures[f"{shown}_error_p50_percent"] = 100 * quantile(errors[name], 0.5)
        figures[f"{shown}_error_p90_percent"] = 100 * quantile(errors[name], 0.9)
        figures[f"{shown}_error_p50_at_{LOADS[-1]:.0%}_load_percent"] = 100 * quantile(crowded[name], 0.5)
    return figures


def _cases() -> Iterator[tuple[Shape, LoadProfile, float, tuple[int, int]]]:
    steady = [dataclasses.replace(named.at(1), burstiness=1.0) for named in NAMED.values()]
    return itertools.product(SHAPES, steady, LOADS, ENGINES)


def _utilisation(shape: Shape, profile: LoadProfile, batch_limit: int, step_tokens: int) -> float:
    """What one request per second takes of the replica; it is proportional."""
    rate = 1e-6
    at_rate = latencies(
        Roofline(), shape, profile, replicas=1, batch_limit=batch_limit, step_tokens=step_tokens, rate=rate
    )
    return at_rate.utilisation / rate


def _both(
    shape: Shape, profile: LoadProfile, trace: Trace, batch_limit: int, step_tokens: int
) -> tuple[Latencies, Latencies]:
    predicted = latencies(
        Roofline(), shape, profile, replicas=1, batch_limit=batch_limit, step_tokens=step_tokens
    )
    replay = simulate(Roofline(), shape, trace, batch_limit=batch_limit, step_tokens=step_tokens)
    return predicted, replay.latencies(skip=SKIP)


def _errors(predicted: Latencies, simulated: Latencies) -> dict[str, float]:
    return {name: getattr(predicted, name) / getattr(simulated, name) - 1 for name in COMPARED}


def _replayed() -> Figures:
    if not TRACE.exists():
        return {"azure_conv_replay": "the trace is not on this machine"}
    trace = read_trace(TRACE)
    shape, (batch_limit, step_tokens) = SHAPES[0], ENGINES[0]
    seen = profile_of(trace)
    figures: Figures = {
        "azure_conv_replay": f"{len(trace)} requests on one H100, 8B bf16",
        "azure_burstiness": seen.burstiness,
        "azure_input_p95_tokens": float(np.quantile(trace.input_tokens, 0.95)),
        "azure_input_p95_if_lognormal_tokens": Lengths(mean=seen.input_tokens, cv=seen.input_cv).p95,
    }
    for load in TRACE_LOADS:
        rate = load / _utilisation(shape, seen, batch_limit, step_tokens)
        scaled = trace.at_rate(rate)
        predicted, simulated = _both(shape, profile_of(scaled), scaled, batch_limit, step_tokens)
        for name, shown in COMPARED.items():
            at = f"azure_{shown}_at_{load:.0%}_load"
            figures[f"{at}_predicted_ms"] = getattr(predicted, name)
            figures[f"{at}_simulated_ms"] = getattr(simulated, name)
    return figures


def read_trace(path: Path) -> Trace:
    """Read a trace of the form TIMESTAMP,ContextTokens,GeneratedTokens."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    moments = [dt.datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    inputs = np.array([int(row["ContextTokens"]) for row in rows])
    return Trace(
        arrivals_ms=np.array([(moment - moments[0]).total_seconds() * 1000 for moment in moments]),
        input_tokens=np.maximum(inputs, 1),
        output_tokens=np.maximum(np.array([int(row["GeneratedTokens"]) for row in rows]), 1),
        cached_tokens=np.zeros(len(rows), dtype=np.int64),
    )


def profile_of(trace: Trace) -> LoadProfile:
    """The profile that a trace has."""
    minutes = math.ceil((trace.arrivals_ms[-1] + 1) / 60_000)
    counts = np.bincount((trace.arrivals_ms // 60_000).astype(np.int64), minlength=minutes)
    return LoadProfile(
        requests_per_second=trace.requests_per_second,
        input_tokens=round(trace.input_tokens.mean()),
        output_tokens=round(trace.output_tokens.mean()),
        burstiness=burstiness_of(
            busiest_minute=int(counts.max()), mean_minute=60 * trace.requests_per_second, minutes=minutes
        ),
        input_cv=float(trace.input_tokens.std() / trace.input_tokens.mean()),
        output_cv=float(trace.output_tokens.std() / trace.output_tokens.mean()),
    )


def _timed() -> Figures:
    profile = NAMED["chat"].at(5)
    begun = time.process_time()
    for _ in range(CALLS):
        latencies(Roofline(), SHAPES[0], profile, replicas=1, batch_limit=256, step_tokens=8192)
    return {"latencies_cpu_us": (time.process_time() - begun) / CALLS * 1e6}
