"""``python -m clusters.planning compose < problem.json``: which GPUs to buy or rent, from JSON.

The problem is an object; fields with a default may be left out, unknown ones are refused:

``goal``
    ``shortest_makespan``, ``largest_rate`` or ``least_cost``.
``gpus``
    List of ``name``, ``price_per_hour`` and optionally ``stock`` (any number without) and ``spec``, the fields of
    ``clusters.planning.problem.GpuSpec`` without the name. A known GPU type needs no ``spec``.
``models``
    List of ``name`` and ``workloads``, a list of ``name`` and ``demand``: a number of requests for the makespan,
    a share of the mix for the largest rate, requests per second for the least cost. Where configurations are to
    be found by the performance model: also ``architecture`` (fields of ``Architecture``), ``precisions``,
    optionally ``itl_ms``, ``ttft_ms`` and ``engine``, and each workload's ``input_tokens`` and ``output_tokens``.
``configurations``
    List of ``name``, ``model``, ``gpus`` (numbers by type) and ``rates`` (requests per second by workload).
    Default none; those of models with an ``architecture`` are added.
``budget_per_hour``
    Money per hour; default no limit.
``time_limit_s``, ``gap``
    When to stop: default 60 s, or within 0.0001 of the bound.
``homogeneous``
    Whether to say what one GPU type alone would do; default false.

The answer has ``fleet`` and, where asked for, ``homogeneous`` (within the stock) and ``homogeneous_any_stock`` (where
money limits it), each in the fields of ``clusters.planning.composition.fleet.Fleet``. Exit status 0 for any answer,
also that there is no fleet; 2 with a message for a malformed problem.
"""

from __future__ import annotations

import dataclasses
import sys
from decimal import Decimal
from typing import Annotated, Any, BinaryIO, TypeVar

import msgspec

from clusters.planning.architecture import Architecture
from clusters.planning.composition.configurations import Lengths, Served, configurations_of
from clusters.planning.composition.fleet import (
    Configuration,
    FleetProblem,
    Goal,
    GpuOffer,
    ModelLoad,
    Workload,
)
from clusters.planning.composition.solve import best_homogeneous, solve
from clusters.planning.gpus import gpu_catalog
from clusters.planning.problem import GpuSpec, Precision, ProblemError

#: A number of GPUs.
Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

Kind = TypeVar("Kind", GpuSpec, Architecture)


class OfferDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    price_per_hour: Decimal
    stock: Number | None = None
    spec: dict[str, Any] | None = None


class WorkloadDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    demand: float
    input_tokens: int | None = None
    output_tokens: int | None = None


class ModelDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    workloads: list[WorkloadDocument]
    architecture: dict[str, Any] | None = None
    precisions: list[Precision] = []
    itl_ms: float | None = None
    ttft_ms: float | None = None
    engine: str = "trtllm"


class ConfigurationDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    model: str
    gpus: dict[str, Number]
    rates: list[float]


class ProblemDocument(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    goal: Goal
    gpus: list[OfferDocument]
    models: list[ModelDocument]
    configurations: list[ConfigurationDocument] = []
    budget_per_hour: Decimal | None = None
    time_limit_s: float = 60.0
    gap: float = 1e-4
    homogeneous: bool = False

    def __post_init__(self) -> None:
        if not self.time_limit_s >= 0 or not 0 <= self.gap < 1:
            raise ProblemError("time_limit_s", "the time limit is a number from 0, the gap one from 0 to 1")


def read_problem(source: BinaryIO) -> tuple[ProblemDocument, FleetProblem]:
    """Read a problem from JSON and find the configurations that it leaves to the performance model.

    Raises:
        ProblemError: it is not JSON, a field is missing, unknown or of the wrong type, or parts contradict.
    """
    try:
        document = msgspec.json.decode(source.read(), type=ProblemDocument)
    except msgspec.MsgspecError as error:
        raise ProblemError("problem", str(error)) from error
    specs = {offer.name: spec for offer in document.gpus if (spec := _spec(offer)) is not None}
    configurations = [
        Configuration(name=each.name, model=each.model, gpus=each.gpus, rates=tuple(each.rates))
        for each in document.configurations
    ]
    for model in document.models:
        if model.architecture is not None:
            configurations += configurations_of(_served(model, model.architecture), specs)
    return document, FleetProblem(
        gpus=tuple(
            GpuOffer(name=offer.name, price_per_hour=offer.price_per_hour, stock=offer.stock)
            for offer in document.gpus
        ),
        models=tuple(
            ModelLoad(
                name=model.name,
                workloads=tuple(Workload(name=each.name, demand=each.demand) for each in model.workloads),
            )
            for model in document.models
        ),
        configurations=tuple(configurations),
        budget_per_hour=document.budget_per_hour,
    )


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    if arguments:
        print("usage: python -m clusters.planning compose < problem.json > fleet.json", file=sys.stderr)
        return 2
    try:
        document, problem = read_problem(sys.stdin.buffer)
        goal, limit, gap = document.goal, document.time_limit_s, document.gap
        answer = {"fleet": solve(problem, goal, time_limit_s=limit, gap=gap)}
        if document.homogeneous:
            answer["homogeneous"] = best_homogeneous(problem, goal, time_limit_s=limit, gap=gap)
            if problem.budget_per_hour is not None or goal is Goal.LEAST_COST:
                answer["homogeneous_any_stock"] = best_homogeneous(
                    problem, goal, any_stock=True, time_limit_s=limit, gap=gap
                )
    except ProblemError as error:
        print(f"{error.field}: {error}", file=sys.stderr)
        return 2
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    return 0


def _spec(offer: OfferDocument) -> GpuSpec | None:
    if offer.spec is None:
        return gpu_catalog().get(offer.name)
    spec = _fields(f"gpus: spec of {offer.name}", {**offer.spec, "name": offer.name}, GpuSpec)
    for name in ("memory_gib", "bandwidth_gbs", "bandwidth_efficiency", "intra_node_gbs", "gpus_per_node"):
        if getattr(spec, name) <= 0:
            raise ProblemError("gpus", f"spec of {offer.name}: {name} must be more than 0")
    return spec


def _served(model: ModelDocument, architecture: dict[str, Any]) -> Served:
    lengths = []
    for each in model.workloads:
        if each.input_tokens is None or each.output_tokens is None:
            raise ProblemError(
                "models", f"workload {each.name} of {model.name} has no input_tokens and output_tokens"
            )
        lengths.append(Lengths(input_tokens=each.input_tokens, output_tokens=each.output_tokens))
    if not model.precisions:
        raise ProblemError("models", f"{model.name} has an architecture and no precisions")
    return Served(
        name=model.name,
        architecture=_fields(f"models: architecture of {model.name}", architecture, Architecture),
        precisions=tuple(model.precisions),
        lengths=tuple(lengths),
        itl_ms=model.itl_ms,
        ttft_ms=model.ttft_ms,
        engine=model.engine,
    )


def _fields(what: str, given: dict[str, Any], kind: type[Kind]) -> Kind:
    """Read a dataclass, refusing names that it does not have."""
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(given) - known):
        raise ProblemError("problem", f"{what}: unknown field {unknown[0]}")
    try:
        return msgspec.convert(given, kind)
    except msgspec.MsgspecError as error:
        raise ProblemError("problem", f"{what}: {error}") from error
