"""What a replay makes of the times it took: figures, lateness of its own, and two reports side by side."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.replay.__main__ import main
from gateway.replay.arrivals import Run
from gateway.replay.client import Measured, Target
from gateway.replay.report import Goals, make_report, summarize

TARGET = Target(name="t", url="http://engine.example/v1", model="m")


def run(measured: list[Measured], *, behind_s: float = 0.0, target: Target = TARGET) -> Run:
    return Run(target, measured, 10.0, 0.0, len(measured), [behind_s] * 10, "")


def test_latency_counts_from_the_moment_a_request_was_due_as_well() -> None:
    figures = summarize(
        run([Measured(late_s=2.0, ttft_s=0.1, total_s=0.5, gaps_s=[0.4], output_tokens=2)]),
        Goals(ttft_ms=500),
    )
    assert (figures["ttft_p99_ms"], figures["ttft_due_p99_ms"]) == (100.0, 2100.0)
    assert (figures["answer_p50_ms"], figures["answer_due_p50_ms"]) == (500.0, 2500.0)
    assert figures["goodput_percent"] == 0.0  # the client waited 2.1 s for it


@pytest.mark.parametrize(("late_s", "behind_s", "kept_up"), [(0, 0, True), (0.3, 0, False), (0, 0.3, False)])
def test_a_replay_that_could_not_keep_up_says_so(late_s: float, behind_s: float, kept_up: bool) -> None:
    figures = summarize(
        run([Measured(late_s=late_s, ttft_s=0.5, total_s=1.0)] * 3, behind_s=behind_s), Goals()
    )
    assert figures["kept_up"] is kept_up


def test_time_between_tokens_is_over_tokens_not_over_requests_or_pieces() -> None:
    long = Measured(ttft_s=0.1, total_s=10.0, gaps_s=[0.01] * 99, output_tokens=100)
    short = Measured(ttft_s=0.1, total_s=0.3, gaps_s=[0.2], output_tokens=2)
    figures = summarize(run([long, short]), Goals())
    assert (figures["itl_p50_ms"], figures["itl_p95_ms"]) == (10.0, 10.0)  # one gap of a hundred is slow
    assert figures["tpot_p95_ms"] == 200.0  # one request of two
    in_fours = Measured(ttft_s=0.1, total_s=1.0, gaps_s=[0.04] * 4, output_tokens=17)
    figures = summarize(run([in_fours]), Goals())
    assert (figures["itl_p50_ms"], figures["tokens_per_piece"]) == (10.0, 4.0)


def test_the_load_is_told_as_planning_takes_it() -> None:
    measured = [
        Measured(at_s=at, ttft_s=0.1, total_s=0.2, input_tokens=given, output_tokens=4)
        for at, given in ((0, 10), (59, 30), (130, 20))
    ]
    figures = summarize(run(measured), Goals())
    assert figures["requests_by_minute"] == [2, 0, 1]
    assert (figures["mean_input_tokens"], figures["input_cv"]) == (20.0, 0.408)
    assert (figures["mean_output_tokens"], figures["output_cv"]) == (4.0, 0.0)
    assert figures["mean_in_flight"] == 0.06


def test_failed_requests_are_in_no_latency_and_in_no_goodput() -> None:
    good = Measured(ttft_s=0.1, total_s=0.2, output_tokens=1)
    figures = summarize(run([good, Measured(failure="429 rate_limited")]), Goals(ttft_ms=500, itl_ms=40))
    assert (figures["failed_percent"], figures["goodput_percent"]) == (50.0, 50.0)
    assert figures["failures"] == {"429 rate_limited": 1}


def kept(path: Path, *, slower: float, seed: int, trace: str = "one", **changes: Any) -> Path:
    chance = random.Random(seed)
    measured = [
        Measured(
            at_s=number / 10, ttft_s=slower * chance.lognormvariate(-2, 0.3), total_s=2.0,
            gaps_s=[chance.lognormvariate(-4, 0.2) for _ in range(20)], output_tokens=21,
        )
        for number in range(300)
    ]  # fmt: skip
    report = make_report([(1.0, run(measured))], goals=Goals(), about={"trace": {"digest": trace}})
    path.write_text(json.dumps(report | changes))
    return path


def test_two_reports_are_compared_and_chance_is_told_from_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept(tmp_path / "before.json", slower=1.0, seed=1)
    after = kept(tmp_path / "after.json", slower=1.5, seed=2)
    assert main(["--compare", str(before), str(after)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["before:", "t", "after:", "t", "change"]
    (ttft,) = (line for line in lines if line.startswith("TTFT p50"))
    (itl,) = (line for line in lines if line.startswith("ITL p50"))
    assert ttft.endswith(" *")
    low, high = ttft.split("(")[1].split(")")[0].split(" … ")
    assert 30 < float(low) < 50 < float(high) < 75
    assert not itl.endswith(" *")


def test_reports_of_different_traces_or_of_another_kind_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = kept(tmp_path / "one.json", slower=1.0, seed=1)
    other = kept(tmp_path / "other.json", slower=1.0, seed=1, trace="other")
    assert main(["--compare", str(one), str(other)]) == 0
    assert "different traces" in capsys.readouterr().out
    strange = kept(tmp_path / "strange.json", slower=1.0, seed=1, schema="berth.replay/9")
    assert main(["--compare", str(one), str(strange)]) == 2
    assert "has 'berth.replay/9'" in capsys.readouterr().err
