"""Residency, GPU catalog, memory, roofline and the command line, each by itself."""

from __future__ import annotations

import dataclasses
import io
import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.planning import __main__ as command_line
from clusters.planning.gpus import gpu_catalog
from clusters.planning.performance.memory import cache_bytes_per_token
from clusters.planning.performance.model import Shape
from clusters.planning.performance.roofline import Roofline
from clusters.planning.placement.nodes import nodes_for, replicas_that_fit
from clusters.planning.problem import Precision
from clusters.planning.residency import residency_allows
from tests.clusters.planning.problems import EXPERTS, LLAMA_8B, LLAMA_70B, order, pool


@pytest.mark.parametrize(
    ("residency", "allowed"),
    [
        ("global", True),
        ("region:eu-de-1", True),
        ("zone:EU", True),
        ("zone:EEA", True),
        ("region:eu-de-2", False),
        ("region:EU", False),
        ("zone:eu-de-1", False),
        ("zone:US", False),
        ("zone:", False),
        ("region:", False),
        ("EU", False),
        ("Global", False),
        ("zone:eu", False),
        ("", False),
    ],
)
def test_residency(residency: str, allowed: bool) -> None:
    assert residency_allows(residency, "eu-de-1", {"EU", "EEA"}) is allowed


def test_residency_without_a_name_is_not_met_by_a_place_without_a_name() -> None:
    assert not residency_allows("region:", "", {""})
    assert not residency_allows("zone:", "", {""})


def test_gpu_catalog_knows_the_silicon() -> None:
    catalog = gpu_catalog()
    assert catalog["h100_sxm"].memory_gib == 80
    assert catalog["h100_sxm"].tflops(Precision.FP8) == 1978
    assert catalog["a100_sxm"].tflops(Precision.FP8) == 0
    assert catalog["a100_sxm"].tflops(Precision.INT4) == catalog["a100_sxm"].bf16_tflops
    assert all(spec.name == name and spec.memory_gib > 0 for name, spec in catalog.items())


@pytest.mark.parametrize(("model", "tp", "kilobytes"), [(LLAMA_8B, 1, 131.072), (LLAMA_70B, 1, 327.68)])
def test_cache_per_token(model: object, tp: int, kilobytes: float) -> None:
    assert cache_bytes_per_token(model.architecture, Precision.BF16, tp) == kilobytes * 1000  # type: ignore[arg-type]


def test_cache_heads_are_copied_when_there_are_fewer_than_gpus() -> None:
    two_heads = dataclasses.replace(LLAMA_8B.architecture, kv_heads=2)
    assert cache_bytes_per_token(two_heads, Precision.BF16, 8) == cache_bytes_per_token(
        two_heads, Precision.BF16, 2
    )


# Rows of the silicon sample of aiconfigurator-core 0.12.0 (Apache-2.0): Llama 3.1 70B in fp8, 1024 tokens in.
# The constants were fitted on these rows among others: this holds them in place, it does not validate them.
@pytest.mark.parametrize(
    ("gpu", "tp", "concurrency", "output_tokens", "measured_ms"),
    [
        ("h100_sxm", 4, 4, 1024, 11.7761),
        ("h100_sxm", 2, 32, 1024, 23.5381),
        ("h100_sxm", 2, 64, 8192, 41.6822),
        ("h200_sxm", 2, 32, 1024, 15.4275),
        ("b200_sxm", 2, 64, 1024, 13.3192),
    ],
)
def test_roofline_stays_near_what_it_was_fitted_on(
    gpu: str, tp: int, concurrency: int, output_tokens: int, measured_ms: float
) -> None:
    shape = Shape(architecture=LLAMA_70B.architecture, gpu=gpu_catalog()[gpu], precision=Precision.FP8, tp=tp)
    itl = Roofline().itl_ms(shape, concurrency=concurrency, input_tokens=1024, output_tokens=output_tokens)
    assert itl == pytest.approx(measured_ms, rel=0.3)


@settings(deadline=None)
@given(
    model=st.sampled_from([LLAMA_8B, LLAMA_70B, EXPERTS]),
    gpu=st.sampled_from(sorted(gpu_catalog())),
    tp=st.sampled_from([1, 2, 4, 8]),
    concurrency=st.integers(1, 255),
    tokens=st.integers(1, 8000),
)
def test_more_work_takes_longer_and_larger_batches_give_more(
    model: object, gpu: str, tp: int, concurrency: int, tokens: int
) -> None:
    roofline = Roofline()
    shape = Shape(architecture=model.architecture, gpu=gpu_catalog()[gpu], precision=Precision.BF16, tp=tp)  # type: ignore[arg-type]
    few = roofline.itl_ms(shape, concurrency=concurrency, input_tokens=tokens, output_tokens=64)
    more = roofline.itl_ms(shape, concurrency=concurrency + 1, input_tokens=tokens, output_tokens=64)
    assert few < more
    assert concurrency / few <= (concurrency + 1) / more * (1 + 1e-9)
    assert roofline.first_token_ms(shape, input_tokens=tokens) <= roofline.first_token_ms(
        shape, input_tokens=tokens + 64
    )


def test_experts_read_fewer_weights_than_a_dense_model_alone_and_all_in_a_batch() -> None:
    gpu = gpu_catalog()["h200_sxm"]
    dense = dataclasses.replace(
        EXPERTS,
        architecture=dataclasses.replace(
            EXPERTS.architecture, parameters_active=EXPERTS.architecture.parameters_total
        ),
    )
    roofline = Roofline()

    def itl(model: object, concurrency: int) -> float:
        shape = Shape(architecture=model.architecture, gpu=gpu, precision=Precision.BF16, tp=1)  # type: ignore[arg-type]
        return roofline.itl_ms(shape, concurrency=concurrency, input_tokens=1, output_tokens=10_000)

    assert itl(EXPERTS, 1) < itl(dense, 1) / 2
    assert itl(EXPERTS, 64) > itl(dense, 1) * 0.9


@settings(deadline=None)
@given(
    free=st.lists(st.integers(0, 8), max_size=5),
    gpus=st.sampled_from([1, 2, 4, 8]),
    replicas=st.integers(0, 12),
)
def test_nodes_are_found_exactly_when_the_replicas_fit(free: list[int], gpus: int, replicas: int) -> None:
    nodes = nodes_for(free, gpus, replicas)
    assert (nodes is not None) == (replicas <= replicas_that_fit(free, gpus))
    if nodes is not None:
        assert len(nodes) == replicas
        assert all(nodes.count(node) * gpus <= free[node[0]] for node in nodes)


def test_fullest_node_that_fits_is_used_first() -> None:
    assert nodes_for((8, 2, 4), 2, 3) == ((1,), (2,), (2,))


def test_replicas_are_spread_over_failure_domains_first() -> None:
    assert nodes_for((8, 8, 8), 2, 3, spread=True) == ((0,), (1,), (2,))
    racks = ("a", "a", "b")
    assert nodes_for((8, 8, 8), 2, 3, domains=racks, spread=True) == ((0,), (2,), (0,))
    assert nodes_for((8, 1, 1), 2, 3, spread=True) == ((0,), (0,), (0,))


def test_a_replica_larger_than_a_node_takes_whole_ones() -> None:
    assert nodes_for((8, 7, 8, 8, 8), 16, 2, gpus_per_node=8) == ((0, 2), (3, 4))
    assert nodes_for((8, 7, 8, 8), 16, 2, gpus_per_node=8) is None
    assert replicas_that_fit((8, 7, 8, 8), 16, gpus_per_node=8) == 1


class FakeStdin:
    def __init__(self, text: str) -> None:
        self.buffer = io.BytesIO(text.encode())


def problem_document() -> dict[str, object]:
    document = msgspec.to_builtins({"order": order(), "pools": [pool()]})
    document["pools"][0]["gpu"] = "h100_sxm"
    return document  # type: ignore[no-any-return]


def run(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", FakeStdin(text))
    return command_line.main(list(arguments))


def test_command_line_plans(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, json.dumps(problem_document()), "plan") == 0
    answer = json.loads(capsys.readouterr().out)
    assert Decimal(answer["configuration"]["cost_per_hour"]) == Decimal("2.50")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pools": [{"gpu": "tpu"}]}, "unknown GPU type tpu"),
        ({"pools": 3}, "pools"),
        ({"order": {}}, "missing required field"),
        ({"order": None}, "order"),
    ],
)
def test_command_line_refuses_what_it_cannot_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict[str, object], words: str
) -> None:
    assert run(monkeypatch, json.dumps(problem_document() | change), "plan") == 2
    assert words in capsys.readouterr().err
    assert run(monkeypatch, "{", "plan") == 2
    assert run(monkeypatch, "{}", "fly") == 2
