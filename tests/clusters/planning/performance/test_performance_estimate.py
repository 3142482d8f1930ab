"""The estimate command: one answer for each case, whatever the case is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusters.planning import __main__ as command_line
from clusters.planning.performance.calibrated import shipped_calibration
from clusters.planning.performance.measurements import layout_of

CASE: dict[str, Any] = {
    "id": "a",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "gpu": "h100_sxm",
    "engine": "vllm",
    "precision": "bf16",
    "tp": 1,
    "isl": 1024,
    "osl": 256,
    "concurrency": 32,
}

Answers = Callable[[list[object]], list[dict[str, Any]]]


class FakeStdin:
    def __init__(self, text: str) -> None:
        self.buffer = text.encode().splitlines(keepends=True)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answers:
    """Run the command on cases, which are lines where they are text, and give its answers."""

    def ask(cases: list[object]) -> list[dict[str, Any]]:
        lines = (case if isinstance(case, str) else json.dumps(case) for case in cases)
        monkeypatch.setattr("sys.stdin", FakeStdin("\n".join(lines)))
        assert command_line.main(["estimate"]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return ask


def test_an_estimate_says_fit_speed_source_and_error(answers: Answers) -> None:
    (answer,) = answers([CASE])
    assert answer["id"] == "a"
    assert answer["fits"] is True
    assert 50 < answer["ttft_ms"] < 1000
    assert 5 < answer["tpot_ms"] < 20
    assert answer["source"] == "calibrated"
    assert 0 < answer["error_band"] < 1
    seconds = (answer["ttft_ms"] + 255 * answer["tpot_ms"]) / 1000
    assert answer["tokens_per_s_per_gpu"] == pytest.approx(32 * 256 / seconds, rel=0.001)
    parts = answer["memory"]
    assert parts["weights_gib"] == pytest.approx(8.03e9 * 2 / 2**30, rel=0.01)
    assert parts["kv_gib"] == pytest.approx(32 * 1280 * 131_072 / 2**30, rel=0.01)
    assert "notes" not in answer


def test_parallel_degrees_are_1_where_absent_and_tokens_are_for_each_gpu(answers: Answers) -> None:
    bare = {name: value for name, value in CASE.items() if name != "tp"}
    empty = CASE | {"tp": None, "attention_dp": "", "moe_ep": None}
    first, second, four = answers([bare, empty, CASE | {"tp": 2, "pp": 2}])
    assert first == second
    assert (first["gpus"], four["gpus"]) == (1, 4)
    assert four["tokens_per_s_per_gpu"] < first["tokens_per_s_per_gpu"]
    assert four["memory"]["weights_gib"] < first["memory"]["weights_gib"] / 3


def test_what_does_not_fit_says_so_beside_the_numbers(answers: Answers) -> None:
    (answer,) = answers([CASE | {"model": "Llama-3.1-70B"}])
    assert answer["fits"] is False
    assert answer["tpot_ms"] > 0
    assert "does not fit: weights 131" in answer["notes"][0]


def test_more_clients_than_the_cache_holds_wait(answers: Answers) -> None:
    few, many = answers([CASE | {"isl": 8192, "osl": 1024, "concurrency": load} for load in (8, 512)])
    assert many["requests_held"] < 512
    assert many["ttft_ms"] > 20 * few["ttft_ms"]
    assert many["memory"]["kv_gib"] <= many["memory"]["kv_available_gib"] * 1.2


def test_architectures_in_numbers_and_precisions_of_checkpoints(answers: Answers) -> None:
    config = {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    named, numbers, unlabelled, eight, short = answers(
        [
            CASE,
            CASE | {"model": config},
            CASE | {"precision": "unlabelled"},
            CASE | {"model": "nvidia/Llama-3.1-8B-Instruct-FP8", "precision": ""},
            CASE | {"kv_precision": "fp8"},
        ]
    )
    assert named == numbers == unlabelled
    assert eight["memory"]["weights_gib"] < 0.6 * named["memory"]["weights_gib"]
    assert short["memory"]["kv_gib"] == pytest.approx(named["memory"]["kv_gib"] / 2)


def test_a_precision_that_the_gpu_lacks_is_noted(answers: Answers) -> None:
    lacks, has = answers([CASE | {"gpu": "a100_sxm", "precision": "fp8"}, CASE | {"precision": "fp8"}])
    assert "a100_sxm cannot multiply in fp8" in lacks["notes"][0]
    assert "notes" not in has


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("{", "no JSON"),
        ('"text"', "JSON object"),
        ("[]", "JSON object"),
        ("{}", "model is missing"),
        (CASE | {"model": None}, "model is missing"),
        (CASE | {"model": "gpt-4"}, "model 'gpt-4' is unknown"),
        (CASE | {"model": {"layers": 2}}, "hidden_size is missing"),
        (CASE | {"model": {"layers": "2"}}, "layers must be a whole number"),
        (CASE | {"gpu": "tpu"}, "gpu 'tpu' is unknown: take one of"),
        (CASE | {"gpu": 3}, "gpu is missing"),
        (CASE | {"engine": None}, "engine is missing"),
        (CASE | {"precision": "fp3"}, "precision 'fp3' is unknown"),
        (CASE | {"kv_precision": "fp3"}, "kv_precision 'fp3' is unknown"),
        (CASE | {"tp": 0}, "tp must be from 1"),
        (CASE | {"tp": 1.5}, "tp must be a whole number"),
        (CASE | {"tp": "2"}, "tp must be a number"),
        (CASE | {"tp": True}, "tp must be a number"),
        (CASE | {"pp": 33}, "pp 33 is more than"),
        (CASE | {"moe_ep": 2}, "moe_ep 2 is more than the 1 GPUs"),
        (CASE | {"isl": -1}, "isl must be from 1"),
        (CASE | {"osl": None}, "osl must be a number"),
        ({name: value for name, value in CASE.items() if name != "concurrency"}, "concurrency is missing"),
        (CASE | {"concurrency": 1e30}, "concurrency must be from 1"),
        (
            CASE
            | {
                "model": {
                    "layers": 10**40,
                    "hidden_size": 10**300,
                    "heads": 1,
                    "vocabulary": 1,
                    "kv_heads": 1,
                }
            },
            "model",
        ),
    ],
)
def test_a_case_that_cannot_be_estimated_says_why(answers: Answers, case: object, words: str) -> None:
    wrong, right = answers([case, CASE])
    assert words in wrong["error"]
    assert wrong.keys() == {"id", "error"}
    assert right["fits"] is True


def test_blank_lines_are_no_cases(answers: Answers) -> None:
    assert [answer["id"] for answer in answers(["", CASE, "   ", CASE | {"id": 2}])] == ["a", 2]


def test_the_command_takes_a_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(msgspec.json.encode(shipped_calibration()))
    document["constants"]["dense"]["scale"]["value"] = 1.5
    own, broken = tmp_path / "own.json", tmp_path / "broken.json"
    own.write_text(json.dumps(document))
    broken.write_text('{"rows": 1}')
    times = []
    for arguments in ([], ["--calibration", str(own)]):
        monkeypatch.setattr("sys.stdin", FakeStdin(json.dumps(CASE)))
        assert command_line.main(["estimate", *arguments]) == 0
        times.append(json.loads(capsys.readouterr().out)["tpot_ms"])
    assert times[1] > 1.3 * times[0]
    for wrong in (
        ["cases.jsonl"],
        ["--calibration"],
        ["--calibration", str(broken)],
        ["--calibration", "none"],
    ):
        assert command_line.main(["estimate", *wrong]) == 2
        assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ((8, 1, 8, 64), (8, 1, 8, 64)),
        ((64, 1, 8, 64), (8, 1, 8, 64)),
        ((4, 4, 16, 16), (4, 1, 4, 64)),
        ((1, 64, 8, 4), (1, 8, 8, 32)),
        ((2, 2, 4, 16), (2, 2, 4, 16)),
        ((16, 1, 1, 16), (16, 1, 1, 16)),
    ],
)
def test_layouts_of_published_tables(
    written: tuple[int, int, int, float], read: tuple[int, int, int, float]
) -> None:
    tp, groups, experts, load = written
    layout = layout_of(tp=tp, attention_dp=groups, moe_ep=experts, concurrency=load, gpus_per_node=8)
    assert (layout.tp, layout.attention_dp, layout.moe_ep, layout.concurrency) == read
