"""``python -m clusters.planning place``."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import time
from typing import Any

import pytest

from clusters.planning.commands import place
from tests.clusters.planning.placement.checker import judge
from tests.clusters.planning.placement.fleets import Document, endpoint, fleet, pool


class _Input:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def _run(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: Any, content: bytes, *arguments: str
) -> tuple[int, bytes, str]:
    monkeypatch.setattr(sys, "stdin", _Input(content))
    status = place.run(list(arguments))
    captured = capsysbinary.readouterr()
    return status, captured.out, captured.err.decode()


def _crowded(endpoints: int) -> Document:
    rng = random.Random(3)
    pools = [
        pool(
            f"c{n}/h100",
            price=round(rng.uniform(1, 3), 3),
            free=[rng.choice([0, 2, 3, 8]) for _ in range(12)],
        )
        for n in range(30)
    ]
    return fleet(
        pools,
        [
            endpoint(
                f"e{n}", gpus=rng.choice([1, 2, 4, 8]), replicas=rng.randint(1, 4), weight=rng.choice([1, 3])
            )
            for n in range(endpoints)
        ],
    )


@pytest.mark.parametrize(
    "document",
    [
        fleet([], []),
        fleet([pool()], []),
        fleet([], [endpoint()]),
        fleet([pool(free=[])], [endpoint()]),
        fleet([pool(free=[0, 0])], [endpoint(), endpoint("e1", gpus=16)]),
        fleet([pool()], [endpoint()], penalty=0, move_cost=0),
        fleet([pool(price=0)], [endpoint()]),
        fleet([pool()], [endpoint(options=[])], notes="fields that nobody knows are passed over"),
    ],
)
def test_any_plan_is_an_answer(
    document: Document, monkeypatch: pytest.MonkeyPatch, capsysbinary: Any
) -> None:
    status, out, err = _run(monkeypatch, capsysbinary, json.dumps(document).encode())
    assert (status, err) == (0, "")
    plan = json.loads(out)
    assert judge(document, plan)[1] == []
    assert plan["status"] == "optimal"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": "much"}, "penalty: Expected `float`, got `str`"),
        ({"penalty": -1}, "penalty: is -1"),
        ({"move_cost": None}, "move_cost: Expected"),
        ({"pools": {}}, "pools: Expected `array`"),
        ({"pools": [pool(), pool()]}, "pools: c0/h100 is there twice"),
        ({"pools": [pool(free=[8, 9])]}, "pools: pool c0/h100: free[1] is 9, not 0 to 8"),
        ({"pools": [pool(free=[-1])]}, "pools: pool c0/h100: free[0] is -1"),
        ({"pools": [pool(), pool("b", free=[1, "8"])]}, "pools[1].free[1]: Expected `int`, got `str`"),
        ({"pools": [pool(gpus_per_node=0, free=[])]}, "pools: pool c0/h100: gpus_per_node is 0"),
        ({"pools": [pool(price=-2)]}, "pools: pool c0/h100: price is -2"),
        ({"pools": [pool(domains=["a"])]}, "pools: pool c0/h100: 1 domains for 2 nodes"),
        ({"endpoints": [endpoint(), endpoint()]}, "endpoints: e0 is there twice"),
        ({"endpoints": [endpoint(gpus=0)]}, "endpoints: endpoint e0: options[0].gpus is 0"),
        ({"endpoints": [endpoint(replicas=0)]}, "endpoints: endpoint e0: options[0].replicas is 0"),
        ({"endpoints": [endpoint(gpus=1.5)]}, "endpoints[0].options[0].gpus: Expected `int`"),
        ({"endpoints": [endpoint(weight=-1)]}, "endpoints: endpoint e0: weight is -1"),
        ({"endpoints": [endpoint(residency="EU")]}, "endpoints: endpoint e0: residency is 'EU'"),
        ({"endpoints": [endpoint(near="zone:")]}, "endpoints: endpoint e0: near is 'zone:'"),
        ({"endpoints": [endpoint(spread=0)]}, "endpoints: endpoint e0: spread is 0"),
        (
            {"endpoints": [endpoint(quota="none")]},
            "endpoints: endpoint e0: quota none is not among the quotas",
        ),
        ({"endpoints": [endpoint(pinned=True)]}, "endpoints: endpoint e0: pinned without a current pool"),
        ({"quotas": [{"id": "q", "gpus": -1}]}, "quotas: quota q: gpus is -1"),
    ],
)
def test_a_malformed_problem_names_the_item(
    change: Document, message: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: Any
) -> None:
    document = fleet([pool()], [endpoint()]) | change
    status, out, err = _run(monkeypatch, capsysbinary, json.dumps(document).encode())
    assert (status, out) == (2, b"")
    assert err.startswith(message)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_problem_is_refused(
    content: bytes, monkeypatch: pytest.MonkeyPatch, capsysbinary: Any
) -> None:
    status, out, err = _run(monkeypatch, capsysbinary, content)
    assert (status, out) == (2, b"")
    assert err.startswith("problem: ")


@pytest.mark.parametrize("arguments", [["--limit"], ["--limit", "soon"], ["--limit", "-1"], ["more"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    assert place.run(arguments) == 2


@pytest.mark.parametrize("limit", ["0", "0.2", "2"])
def test_the_limit_is_kept(limit: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: Any) -> None:
    document = _crowded(400)
    began = time.monotonic()
    status, out, _ = _run(monkeypatch, capsysbinary, json.dumps(document).encode(), "--limit", limit)
    assert time.monotonic() - began < float(limit) + 10
    plan = json.loads(out)
    assert status == 0
    assert judge(document, plan)[1] == []
    assert 0 < plan["bound"] <= plan["objective"]


def test_the_module_answers() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "clusters.planning", "place"],
        input=json.dumps(fleet([pool()], [endpoint()])).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(answer.stdout)["status"] == "optimal"
    assert answer.stderr == b""
