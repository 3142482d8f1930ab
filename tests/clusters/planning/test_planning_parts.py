"""Residency, GPU catalog, nodes and the command line, each by itself."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.planning import __main__ as command_line
from clusters.planning.gpus import gpu_catalog, part_of_whole
from clusters.planning.placement.nodes import nodes_for, replicas_that_fit
from clusters.planning.problem import Precision
from clusters.planning.residency import residency_allows
from tests.clusters.planning.problems import order, pool


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


@pytest.mark.parametrize(
    ("name", "profile", "share"),
    [
        ("h100_sxm", "", Fraction(1)),
        ("h100_sxm-1g-10gb", "1g.10gb", Fraction(1, 7)),
        ("h100_sxm-1g-20gb", "1g.20gb", Fraction(1, 4)),  # four of them take all the memory
        ("h100_sxm-3g-40gb", "3g.40gb", Fraction(1, 2)),
        ("h100_sxm-1g-10gb-me", "1g.10gb+me", Fraction(1, 7)),
        ("a30-2g-12gb", "2g.12gb", Fraction(1, 2)),
        ("h100_sxm-7g-80gb", "7g.80gb", Fraction(1)),
        ("h100_sxm-9g-10gb", "", Fraction(1)),
        ("our-own", "", Fraction(1)),
    ],
)
def test_a_part_is_the_greater_of_its_shares_of_compute_and_memory(name, profile, share):
    assert part_of_whole(name) == (profile, share)
