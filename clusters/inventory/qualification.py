"""Qualifying a pool: what a replay measured there goes into the planner's table, and the planner reads it back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from django.db import transaction
from django.utils import timezone

from clusters.inventory.catalog import RUNTIMES, architecture_of
from clusters.models import CatalogModel, NodePool, PoolMeasurement
from clusters.planning import problem
from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.best import default_model
from clusters.planning.performance.model import PerformanceModel, Shape
from clusters.planning.performance.qualified import Expected, Qualified, Run, expected_of
from clusters.planning.profiles import burstiness_of
from gateway.contract.replays import REPLAY_SCHEMA, ReplayedTarget, ReplayReport
from tenants.errors import Invalid

#: What a report must have to say anything of a pool.
FEWEST_REQUESTS: Final = 100
MOST_FAILED_PERCENT: Final = 1.0

#: How far a clock elsewhere may be ahead of ours.
CLOCKS_APART: Final = dt.timedelta(minutes=5)

MOST_SHARE: Final = 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """What answered the replay: replicas of one shape, and how their engines were set."""

    model: CatalogModel
    runtime: str
    precision: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    replicas: int = 1
    max_batch_size: int
    max_num_tokens: int
    engine_version: str = ""

    @property
    def gpus(self) -> int:
        """GPUs that all of them hold."""
        return self.tensor_parallel * self.pipeline_parallel * self.replicas


@transaction.atomic
def pool_qualify(
    *, pool: NodePool, report: Mapping[str, Any], served: Served, target: str = "", actor: str
) -> tuple[list[PoolMeasurement], bool]:
    """Write what a replay's report says of a target into the planner's table: a row for each speed that it has.

    The same report again changes nothing. Gives the rows, and whether they are new.

    Raises:
        Invalid: the report is none, is too little or too bad to tell anything, or does not fit what served.
    """
    figures = figures_of(report, target)
    for each in figures:
        _check(each, served)
    _check_served(pool, served)
    digest = report_digest(report)
    rows, made = [], False
    for each in figures:
        row, new = PoolMeasurement.objects.get_or_create(
            pool=pool, digest=digest, target=each.target, speed=each.speed,
            defaults={"measured_by": actor, **_served_fields(served), **_measured_fields(each, served)},
        )  # fmt: skip
        rows.append(row)
        made = made or new
    return rows, made


@transaction.atomic
def measurement_remove(*, measurement: PoolMeasurement) -> None:
    """Take a measurement out of the planner's table: the next plan is made without it."""
    measurement.delete()


def report_digest(report: Mapping[str, Any]) -> str:
    """Name a report by its content, but for the single answers, which may be left out of what is sent."""
    targets = [
        {name: value for name, value in each.items() if name != "answers"} for each in report["targets"]
    ]
    content = msgspec.json.encode({**report, "targets": targets}, order="sorted")
    return hashlib.sha256(content).hexdigest()


def measurements_read() -> list[Run]:
    """Give the table as the planner takes it, without clusters that were taken away: nobody could correct those."""
    rows = PoolMeasurement.objects.filter(pool__cluster__removed_at=None)
    rows = rows.select_related("pool__gpu_type", "model")
    return [run_of(row) for row in rows if row.pool.gpu_type.name in gpu_catalog()]


def planning_model() -> PerformanceModel:
    """Give the planner's performance model, as measurements of this installation's pools correct it."""
    runs = measurements_read()
    return Qualified(default_model(), runs) if runs else default_model()


def run_of(row: PoolMeasurement) -> Run:
    """Give a row as the planner takes it."""
    return Run(
        name=row.digest,
        at=row.measured_at,
        shape=Shape(
            architecture=architecture_of(row.model),
            gpu=gpu_catalog()[row.pool.gpu_type.name],
            precision=problem.Precision(row.precision),
            tp=row.tensor_parallel,
            pp=row.pipeline_parallel,
        ),
        load=problem.LoadProfile(
            **{field.name: getattr(row, field.name) for field in dataclasses.fields(problem.LoadProfile)}
        ),
        replicas=row.replicas,
        batch_limit=row.max_batch_size,
        step_tokens=row.max_num_tokens,
        in_flight=row.in_flight,
        requests=row.requests,
        hours=row.seconds / 3600,
        ttft_ms=row.ttft_mean_ms,
        itl_ms=row.itl_mean_ms,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """A measurement beside what the planner expects of its load, without the table and with it."""

    row: PoolMeasurement
    before: Expected
    after: Expected
    reasons: tuple[str, str]


def measurements_judged(rows: Sequence[PoolMeasurement]) -> list[Judged]:
    """Compare measurements with predictions."""
    plain, qualified = default_model(), Qualified(default_model(), measurements_read())
    judged = []
    for row in rows:
        run = run_of(row)
        corrected = qualified.corrected(run.shape)
        reasons = corrected.correction.explanation if corrected else ("", "")
        judged.append(
            Judged(
                row=row,
                before=expected_of(run, plain),
                after=expected_of(run, qualified),
                reasons=reasons,
            )
        )
    return judged


def figures_of(report: Mapping[str, Any], target: str) -> list[ReplayedTarget]:
    """Read what a report says of a target, at each speed; without a name the only one.

    Raises:
        Invalid: it is no report, or has no such target.
    """
    if report.get("schema") != REPLAY_SCHEMA:
        raise _invalid(
            f"This is no report of a replay with the schema {REPLAY_SCHEMA}. Make one with python -m gateway.replay … "
            "--out report.json."
        )
    try:
        found = msgspec.convert(report, ReplayReport).targets
    except msgspec.ValidationError as error:
        raise _invalid(f"The report cannot be read: {error}.") from error
    names = list(dict.fromkeys(each.target for each in found))
    if not target and len(names) > 1:
        text = f"The report has several targets: choose from {', '.join(names)}."
        raise Invalid(text, errors={"target": [text]})
    chosen = [each for each in found if each.target == (target or names[0])]
    if not chosen:
        text = f"The report has no target {target}, only {', '.join(names)}."
        raise Invalid(text, errors={"target": [text]})
    if len({each.speed for each in chosen}) < len(chosen):
        raise _invalid("The report has a target at one speed twice.")
    return chosen


def _check(figures: ReplayedTarget, served: Served) -> None:
    """Refuse what says nothing of a pool."""
    what = f"{figures.target} at speed {figures.speed:g}"
    if not figures.kept_up:
        raise _invalid(
            f"{what}: the machine that replayed could not keep up, so that the times are its own. Replay from a "
            "machine with more processor time, or slower."
        )
    if figures.completed < FEWEST_REQUESTS:
        raise _invalid(
            f"{what}: {figures.completed} requests came to their end; {FEWEST_REQUESTS} are the fewest that tell."
        )
    if figures.failed_percent is None or figures.failed_percent > MOST_FAILED_PERCENT:
        raise _invalid(
            f"{what}: {figures.failed_percent} % of the requests failed; {MOST_FAILED_PERCENT:g} % may."
        )
    missing = [name for name in _NEEDED if not getattr(figures, name)]
    if missing:
        raise _invalid(
            f"{what}: the report has no {', '.join(missing)}: answers of two tokens at least are needed."
        )
    if figures.began_at > timezone.now() + CLOCKS_APART:
        raise _invalid(f"{what}: it began in the future; set the clock of the machine that replayed.")
    if figures.gpus is not None and figures.gpus != served.gpus:
        raise _invalid(
            f"{what}: it was replayed against {figures.gpus:g} GPUs, and {served.replicas} x TP "
            f"{served.tensor_parallel} x PP {served.pipeline_parallel} are {served.gpus}."
        )


_NEEDED: Final = (
    "requests_per_s", "mean_in_flight", "mean_input_tokens", "mean_output_tokens", "output_tokens_per_s",
    *(f"{kind}_{which}_ms" for kind in ("ttft", "itl") for which in ("mean", "p50", "p95", "p99")),
)  # fmt: skip


def _check_served(pool: NodePool, served: Served) -> None:
    errors: dict[str, list[str]] = {}
    if pool.gpu_type.name not in gpu_catalog():
        errors["pool"] = [f"The planner knows no GPU type {pool.gpu_type.name}."]
    if served.precision not in served.model.precisions:
        offered = ", ".join(served.model.precisions)
        errors["precision"] = [f"{served.model.name} is offered in {offered}, not in {served.precision}."]
    if served.runtime not in RUNTIMES:
        errors["runtime"] = [f"Choose from {', '.join(RUNTIMES)}."]
    if served.gpus > pool.total_gpus:
        errors["replicas"] = [f"They hold {served.gpus} GPUs, and the pool has {pool.total_gpus}."]
    if errors:
        raise Invalid("What served does not fit the pool or the model.", errors=errors)


def _served_fields(served: Served) -> dict[str, Any]:
    return {field.name: getattr(served, field.name) for field in dataclasses.fields(served)}


def _measured_fields(figures: ReplayedTarget, served: Served) -> dict[str, Any]:
    minutes = figures.requests_by_minute
    whole = minutes[:-1] if len(minutes) > 1 else []
    bursts = burstiness_of(
        busiest_minute=max(whole, default=0),
        mean_minute=sum(whole) / len(whole) if whole else 0.0,
        minutes=len(whole),
    )
    return {
        "measured_at": figures.began_at,
        "requests": figures.completed,
        "failed_percent": figures.failed_percent,
        "seconds": figures.seconds,
        "requests_per_second": figures.requests_per_s,
        "input_tokens": max(1, round(figures.mean_input_tokens or 0)),
        "output_tokens": max(1, round(figures.mean_output_tokens or 0)),
        "input_cv": min(10.0, figures.input_cv or 0.0),
        "output_cv": min(10.0, figures.output_cv or 0.0),
        "burstiness": bursts,
        "prefix_share": min(MOST_SHARE, figures.cached_tokens / max(1, figures.input_tokens)),
        "in_flight": (figures.mean_in_flight or 0.0) / served.replicas,
        "output_tokens_per_s_per_gpu": (figures.output_tokens_per_s or 0.0) / served.gpus,
        **{
            f"{kind}_{which}_ms": getattr(figures, f"{kind}_{which}_ms")
            for kind in ("ttft", "itl")
            for which in ("mean", "p50", "p95", "p99")
        },
    }


def _invalid(text: str) -> Invalid:
    return Invalid(text, errors={"report": [text]})
