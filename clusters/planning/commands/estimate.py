"""``python -m clusters.planning estimate [--calibration FILE] < cases.jsonl > estimates.jsonl``: single configurations.

Each line is a case: ``id``, ``model`` (a known model's name, or an object of architecture numbers), ``gpu``,
``engine``, ``precision``, ``tp``, ``pp``, ``attention_dp``, ``moe_ep`` (1 where absent), ``isl``, ``osl`` and
``concurrency``; also ``kv_precision`` where the cache is not kept as the engine does by default. Each is answered by
one line: an estimate, or an ``error`` that says what was wrong. With ``--calibration`` the constants are those of
a file that ``calibrate`` wrote. Exit status 0, 2 for a wrong command line or file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from clusters.planning.architecture import ArchitectureError, architecture_from
from clusters.planning.gpus import gpu_catalog
from clusters.planning.known_models import KnownModel, known_model
from clusters.planning.performance.best import BestKnown, default_model
from clusters.planning.performance.calibrated import Calibrated, read_calibration
from clusters.planning.performance.measurements import UNLABELLED, layout_of
from clusters.planning.performance.memory import CACHE_BYTES, fits, memory_of, requests_held
from clusters.planning.performance.model import Shape
from clusters.planning.problem import Precision

#: Numbers of a case and the largest that makes sense of each.
LIMITS: Final = {
    "tp": 1024,
    "pp": 1024,
    "attention_dp": 4096,
    "moe_ep": 4096,
    "isl": 10_000_000,
    "osl": 10_000_000,
    "concurrency": 1_000_000,
}


class CaseError(ValueError):
    """A case that cannot be estimated; the message says what to change."""


def estimate(case: Mapping[str, Any], model: BestKnown) -> dict[str, Any]:
    """Answer one case.

    Raises:
        CaseError: a field is missing, unknown or out of range.
    """
    known = _model(case.get("model"))
    gpu = gpu_catalog().get(_text(case, "gpu"))
    if gpu is None:
        raise CaseError(f"gpu {case['gpu']!r} is unknown: take one of {', '.join(gpu_catalog())}")
    layout = layout_of(
        tp=_count(case, "tp", default=1),
        attention_dp=_count(case, "attention_dp", default=1),
        moe_ep=_count(case, "moe_ep", default=1),
        concurrency=_number(case, "concurrency"),
        gpus_per_node=gpu.gpus_per_node,
    )
    cache = case.get("kv_precision")
    shape = Shape(
        architecture=known.architecture,
        gpu=gpu,
        precision=_precision(case, "precision", default=known.precision),
        tp=layout.tp,
        pp=_count(case, "pp", default=1),
        expert_parallel=layout.moe_ep,
        attention_parallel=layout.attention_dp,
        engine=_text(case, "engine").lower(),
        cache_bytes=None if cache is None else CACHE_BYTES[_precision(case, "kv_precision", default=None)],
    )
    _check_layout(shape)
    inputs, outputs = _number(case, "isl"), _number(case, "osl")
    found = model.estimate(shape, concurrency=layout.concurrency, input_tokens=inputs, output_tokens=outputs)
    held = requests_held(shape, input_tokens=inputs, output_tokens=outputs)
    running = min(layout.concurrency, held)
    memory = memory_of(shape, input_tokens=inputs, output_tokens=outputs, requests=running)
    alone = memory_of(shape, input_tokens=inputs, output_tokens=outputs, requests=1)
    seconds = (found.ttft_ms + (outputs - 1) * found.itl_ms) / 1000
    answer = {
        "fits": fits(alone),
        "ttft_ms": round(found.ttft_ms, 3),
        "tpot_ms": round(found.itl_ms, 4),
        "tokens_per_s_per_gpu": round(layout.concurrency * outputs / seconds / shape.gpus, 3),
        "source": found.confidence.source,
        "error_band": round(found.confidence.itl_error, 3),
        "ttft_error_band": round(found.confidence.ttft_error, 3),
        "gpus": shape.gpus,
        "requests_held": int(held),
        "memory": {name: round(value, 2) for name, value in msgspec.to_builtins(memory).items()},
    }
    notes = _notes(shape, answer)
    return answer | ({"notes": notes} if notes else {})


def _notes(shape: Shape, answer: Mapping[str, Any]) -> list[str]:
    notes = []
    if not answer["fits"]:
        memory = answer["memory"]
        notes.append(
            f"does not fit: weights {memory['weights_gib']} GiB, activations {memory['activations_gib']} GiB and "
            f"framework {memory['framework_gib']} GiB leave {memory['kv_available_gib']} GiB of "
            f"{memory['available_gib']} GiB for the cache of one request; the times are as if it did"
        )
    if not shape.gpu.tflops(shape.precision):
        notes.append(f"{shape.gpu.name} cannot multiply in {shape.precision}: weights are unpacked to bf16")
    return notes


def answers(lines: Iterable[bytes], model: BestKnown | None = None) -> Iterable[dict[str, Any]]:
    """Answer every line that is not blank, in order."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        case: Any = None
        try:
            case = msgspec.json.decode(line)
            if not isinstance(case, dict):
                raise CaseError("a case is a JSON object: write {...} on one line")
            answer = estimate(case, model or default_model())
        except msgspec.MsgspecError as error:
            answer = {"error": f"line {number} is no JSON: {error}; write one JSON object on each line"}
        except (CaseError, ArchitectureError) as error:
            answer = {"error": str(error)}
        except ArithmeticError:
            answer = {"error": "the model's numbers are too large to calculate with: check its architecture"}
        yield {"id": case.get("id") if isinstance(case, dict) else None} | answer


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    match arguments:
        case []:
            model = None
        case ["--calibration", path]:
            try:
                model = BestKnown(Calibrated(read_calibration(Path(path).read_bytes())))
            except (OSError, ValueError) as error:
                print(f"{path} is no calibration: {error}", file=sys.stderr)
                return 2
        case _:
            print(
                "usage: python -m clusters.planning estimate [--calibration FILE] < cases.jsonl > estimates.jsonl",
                file=sys.stderr,
            )
            return 2
    for answer in answers(sys.stdin.buffer, model):
        print(msgspec.json.encode(answer).decode())
    return 0


def _model(given: object) -> KnownModel:
    if isinstance(given, str) and given.strip():
        known = known_model(given)
        if known is None:
            raise CaseError(
                f"model {given!r:.80} is unknown: give its config.json numbers as an object instead of the name"
            )
        return known
    if isinstance(given, Mapping) and given:
        return KnownModel(name="", architecture=architecture_from(given), precision=Precision.BF16)
    raise CaseError("model is missing: give a model's name or an object of its architecture numbers")


def _text(case: Mapping[str, Any], name: str) -> str:
    value = case.get(name)
    if not isinstance(value, str) or not value.strip():
        raise CaseError(f"{name} is missing: give it as text")
    return value.strip()


def _precision(case: Mapping[str, Any], name: str, *, default: Precision | None) -> Precision:
    value = case.get(name)
    if default is not None and (value is None or value in UNLABELLED):
        return default
    try:
        return Precision(str(value).lower())
    except ValueError:
        raise CaseError(f"{name} {value!r:.40} is unknown: take one of {', '.join(Precision)}") from None


def _number(case: Mapping[str, Any], name: str, *, default: float | None = None) -> float:
    value = case.get(name)
    if (value is None or value == "") and default is not None:
        return float(default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CaseError(
            f"{name} must be a number, not {value!r:.40}" if name in case else f"{name} is missing"
        )
    if not 1 <= value <= LIMITS[name]:
        raise CaseError(f"{name} must be from 1 to {LIMITS[name]}, not {value!r:.40}")
    return float(value)


def _count(case: Mapping[str, Any], name: str, *, default: int) -> int:
    value = _number(case, name, default=default)
    if not value.is_integer():
        raise CaseError(f"{name} must be a whole number, not {value}")
    return int(value)


def _check_layout(shape: Shape) -> None:
    stage = shape.tp * shape.attention_parallel
    if shape.expert_parallel > stage:
        raise CaseError(
            f"moe_ep {shape.expert_parallel} is more than the {stage} GPUs of a stage (tp x attention_dp): "
            f"lower it to {stage}"
        )
    if shape.pp > shape.architecture.layers:
        raise CaseError(
            f"pp {shape.pp} is more than the model's {shape.architecture.layers} layers: lower it"
        )
