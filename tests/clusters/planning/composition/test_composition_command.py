"""``python -m clusters.planning compose``: an answer for every question, a message for every mistake."""

from __future__ import annotations

import copy
import io
import json
from typing import Any

import pytest

from clusters.planning.commands import compose

PROBLEM: dict[str, Any] = {
    "goal": "shortest_makespan",
    "gpus": [
        {"name": "t1", "price_per_hour": 4, "stock": 2},
        {"name": "t2", "price_per_hour": "2.00", "stock": 2},
    ],
    "models": [
        {"name": "model", "workloads": [{"name": "w1", "demand": 80}, {"name": "w2", "demand": 20}]},
    ],
    "configurations": [
        {"name": "1xt1", "model": "model", "gpus": {"t1": 1}, "rates": [1.0, 1.2]},
        {"name": "TP2xt2", "model": "model", "gpus": {"t2": 2}, "rates": [2.4, 1.5]},
    ],
    "budget_per_hour": 8,
}
MODELLED: dict[str, Any] = {
    "goal": "least_cost",
    "gpus": [
        {"name": "h100_sxm", "price_per_hour": 2.99, "stock": 8},
        {"name": "l4", "price_per_hour": 0.5},
        {
            "name": "mine",
            "price_per_hour": 0.53,
            "spec": {
                "memory_gib": 24, "bandwidth_gbs": 1008, "bandwidth_efficiency": 0.8, "bf16_tflops": 165,
                "fp8_tflops": 330, "fp4_tflops": 0, "intra_node_gbs": 32, "inter_node_gbs": 1, "gpus_per_node": 8,
                "reserved_gib": 3.5,
            },
        },
    ],
    "models": [
        {
            "name": "8b",
            "architecture": {
                "parameters_total": 8030000000, "parameters_active": 8030000000, "layers": 32, "hidden_size": 4096,
                "heads": 32, "kv_heads": 8, "head_size": 128, "vocabulary": 128256,
            },
            "precisions": ["bf16"],
            "itl_ms": 60,
            "workloads": [{"name": "chat", "demand": 5, "input_tokens": 800, "output_tokens": 250}],
        },
    ],
    "homogeneous": True,
}  # fmt: skip


def asked(
    problem: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any], str]:
    text = problem if isinstance(problem, bytes) else json.dumps(problem).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    status = compose.run([])
    written = capsys.readouterr()
    return status, json.loads(written.out or "{}"), written.err


def changed(path: str, value: Any, base: dict[str, Any] = PROBLEM) -> dict[str, Any]:
    """The problem with one part replaced, or left out with ``None``."""
    problem: Any = copy.deepcopy(base)
    at = problem
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in steps:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return dict(problem)


def test_the_worked_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer, _ = asked(PROBLEM, monkeypatch, capsys)
    assert status == 0
    assert answer["fleet"]["status"] == "optimal"
    assert answer["fleet"]["makespan_s"] == pytest.approx(28.431372549)
    assert answer["fleet"]["copies"] == [
        {"configuration": "1xt1", "count": 1, "price_per_hour": "4"},
        {"configuration": "TP2xt2", "count": 1, "price_per_hour": "4.00"},
    ]


def test_configurations_come_from_the_performance_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer, _ = asked(MODELLED, monkeypatch, capsys)
    assert status == 0
    fleets = [answer[name] for name in ("fleet", "homogeneous", "homogeneous_any_stock")]
    assert [fleet["status"] for fleet in fleets] == ["optimal"] * 3
    costs = [float(fleet["cost_per_hour"]) for fleet in fleets]
    assert 0 < costs[0] <= costs[1]
    assert all(each["configuration"].startswith("8b on ") for each in fleets[0]["copies"])


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (changed("budget_per_hour", 0), "budget and stock do not allow replicas for every workload"),
        (changed("configurations", None), "no configuration serves w1 of model"),
        (changed("goal", "least_cost"), "the stock serves at most"),
    ],
)
def test_no_fleet_is_an_answer(
    problem: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, answer, _ = asked(problem, monkeypatch, capsys)
    assert (status, answer["fleet"]["status"], answer["fleet"]["copies"]) == (0, "infeasible", [])
    assert answer["fleet"]["message"].startswith(message)
    assert answer["fleet"]["gpus_left"] == {"t1": 2, "t2": 2}


def test_nothing_to_serve_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {"goal": "least_cost", "gpus": [], "models": [], "homogeneous": True}
    status, answer, _ = asked(empty, monkeypatch, capsys)
    assert (status, answer["fleet"]["status"], answer["fleet"]["message"]) == (
        0,
        "optimal",
        "nothing is asked for",
    )


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b"\xff", "malformed"),
        (changed("goal", None), "missing required field `goal`"),
        (changed("goal", "cheap"), "Invalid enum value 'cheap'"),
        (changed("gpus.0.stok", 2), "unknown field `stok`"),
        (changed("gpus.0.stock", -1), "`int` >= 0"),
        (changed("gpus.0.price_per_hour", -1), "t1: a price is from 0"),
        (changed("gpus.0.price_per_hour", "NaN"), "t1: a price is from 0"),
        (changed("gpus.0.price_per_hour", "1e400"), "t1: a price is from 0"),
        (changed("gpus.0.name", "t2"), "t2 is there twice"),
        (changed("gpus.0.name", ""), "one has no name"),
        (changed("gpus.0.spec", {"memory": 1}), "spec of t1: unknown field memory"),
        (changed("gpus.0.spec", {}), "spec of t1: Object missing required field"),
        (changed("models.0.workloads.0.demand", -3), "workload w1: the demand is 0 or from"),
        (changed("models.0.workloads.0.demand", "many"), "Expected `float`"),
        (changed("models.0.architecture", {}), "workload w1 of model has no input_tokens"),
        (changed("configurations.0.model", "other"), "1xt1: unknown model other"),
        (changed("configurations.0.gpus", {"t9": 1}), "1xt1: unknown GPU type t9"),
        (changed("configurations.0.gpus", {}), "1xt1: a replica takes at least one GPU"),
        (changed("configurations.0.rates", [1.0]), "1xt1: 1 rates for the 2 workloads of model"),
        (changed("configurations.0.rates", [1.0, 1e12]), "1xt1: a rate is 0 or from"),
        (changed("budget_per_hour", "-1"), "a budget is from 0"),
        (changed("gap", 2), "the gap one from 0 to 1"),
        (changed("models.0.precisions", None, MODELLED), "8b has an architecture and no precisions"),
        (changed("models.0.precisions", ["fp3"], MODELLED), "Invalid enum value 'fp3'"),
        (changed("models.0.architecture.layers", 0, MODELLED), "layers must be at least 1"),
        (changed("models.0.architecture.depth", 1, MODELLED), "unknown field depth"),
        (
            changed("models.0.workloads.0.output_tokens", 0, MODELLED),
            "at least one input and one output token",
        ),
        (changed("gpus.2.spec.bandwidth_gbs", 0, MODELLED), "bandwidth_gbs must be more than 0"),
        (changed("goal", "largest_rate", MODELLED), "nothing limits how many of 8b on l4"),
    ],
)
def test_mistakes_are_named(
    problem: Any, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer, error = asked(problem, monkeypatch, capsys)
    assert (status, answer) == (2, {})
    assert message in error
    assert "Traceback" not in error


def test_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert compose.run(["problem.json"]) == 2
    assert "usage" in capsys.readouterr().err
