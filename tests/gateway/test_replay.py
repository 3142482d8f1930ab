"""``python -m gateway.replay``: a trace's traffic against OpenAI endpoints, through the command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import usage_log
from gateway.replay.__main__ import main
from gateway.replay.trace import read_trace
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY, UNKNOWN_KEY

ROOT = Path(__file__).parents[2]
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
TRACE = HEAD + (
    "2023-11-16 18:15:46.6805900,30,4\n2023-11-16 18:15:46.7805901,12,3\n2023-11-16 18:15:47.0000000,20,5\n"
)


async def report_of(*arguments: object, status: int = 0) -> dict[str, Any]:
    """Run the command in a thread, with an event loop of its own; give the report that it keeps."""
    out = Path(str(arguments[0])).with_name("report.json")
    assert await asyncio.to_thread(main, [*map(str, arguments), "--out", str(out)]) == status
    return json.loads(out.read_text())


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


async def replay(*arguments: object, key: str = KEY) -> tuple[int, str, str]:
    """Run the command; give its exit status and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.replay", *map(str, arguments), cwd=ROOT,
        env={"PATH": os.environ["PATH"], "BERTH_API_KEY": key},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_every_request_is_sent_with_its_lengths_and_accounted_for(bench: Bench, trace: Path) -> None:
    bench.triton.behaviour = Behaviour(tokens=50)
    status, out, err = await replay(
        trace, "--url", f"{bench.url}/v1", "--model", "docs", "--prices", "1/2/0.5", "--json"
    )
    assert (status, err) == (0, "")
    (report,) = json.loads(out)["targets"]
    calls = bench.triton.calls[2:]  # after the two that tell the scale
    assert [call.payload["max_tokens"] for call in calls] == [4, 3, 5]
    sent = [len(call.payload["text_input"].split()) for call in calls]
    assert sent == pytest.approx([30, 12, 20], abs=1)
    assert (report["requests"], report["completed"], report["failed"]) == (3, 3, 0)
    assert (report["input_tokens"], report["output_tokens"]) == (sum(sent), 12)
    assert report["cost"] == pytest.approx((sum(sent) * 1 + 12 * 2) / 1e6)
    assert report["seconds"] >= 0.3  # the trace's own span
    assert 0 < report["ttft_p50_ms"] <= report["ttft_p99_ms"]
    assert report["itl_p50_ms"] is not None


async def test_speed_skip_and_limit_choose_the_part_and_its_pace(bench: Bench, trace: Path) -> None:
    trace.write_text(HEAD + "0,9,2\n50,10,2\n51,11,3\n500,12,2\n")
    status, out, _ = await replay(
        trace, "--url", f"{bench.url}/v1", "--model", "docs", "--json",
        "--skip", 1, "--limit", 2, "--speed", 4, "--most-output-tokens", 2,
    )  # fmt: skip
    (report,) = json.loads(out)["targets"]
    assert (status, report["requests"]) == (0, 2)
    assert 0.25 <= report["seconds"] < 40
    assert [call.payload["max_tokens"] for call in bench.triton.calls[2:]] == [2, 2]


async def test_two_targets_get_the_same_traffic_side_by_side(bench: Bench, trace: Path) -> None:
    url = f"{bench.url}/v1"
    status, out, _ = await replay(
        trace, "--url", url, "--name", "before", "--url", url, "--name", "after", "--model", "docs",
        "--prices", "1/1", "--prices", "2/2",
    )  # fmt: skip
    assert status == 0
    prompts = [call.payload["text_input"] for call in bench.triton.calls]
    assert prompts[4:7] == prompts[7:10]
    head, *rows = out.splitlines()
    assert head.split() == ["before", "after", "change"]
    cost = next(row for row in rows if row.startswith("cost "))
    assert cost.endswith("+100.0 %")


async def test_failures_are_counted_by_kind_and_fail_the_command(bench: Bench, trace: Path) -> None:
    bench.triton.next_behaviours = [Behaviour(), Behaviour(), Behaviour()] + [
        Behaviour(status=500, error="broken") for _ in range(4)
    ]
    status, out, _ = await replay(trace, "--url", f"{bench.url}/v1", "--model", "docs")
    assert status == 1
    assert "2 x 502 engine_error" in out


async def test_a_target_that_refuses_the_key_is_named_before_anything_is_replayed(
    bench: Bench, trace: Path
) -> None:
    status, out, err = await replay(
        trace, "--url", f"{bench.url}/v1", "--model", "docs", "--name", "mine", key=UNKNOWN_KEY
    )
    assert (status, out) == (2, "")
    assert "mine: a short request" in err
    assert "401 invalid_api_key" in err


async def test_requests_go_out_when_they_are_due_however_long_answers_take(
    bench: Bench, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_API_KEY", KEY)
    all_came = asyncio.Event()
    bench.triton.next_behaviours = [Behaviour(), Behaviour(), *(Behaviour(until=all_came) for _ in range(3))]
    running = asyncio.create_task(report_of(trace, "--url", f"{bench.url}/v1", "--model", "docs"))
    await eventually(lambda: len(bench.triton.calls) == 5)
    all_came.set()
    (result,) = (await running)["targets"]
    assert (result["completed"], result["most_in_flight"]) == (3, 3)


async def test_the_report_holds_what_is_needed_to_repeat_it_and_money_by_gpu(
    bench: Bench, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_API_KEY", KEY)
    trace.write_text("# synthesised from minutes\n" + HEAD + "0,9,3\n0.1,10,3\n")
    report = await report_of(
        trace, "--url", f"{bench.url}/v1", "--model", "docs", "--gpus", 4, "--gpu-price", 2.5,
        "--ttft-ms", 60000, "--itl-ms", 60000, "--warm-up", 2, "--most-input-tokens", 9,
    )  # fmt: skip
    assert report["schema"] == "berth.replay/1"
    assert report["command"][:2] == [str(trace), "--url"]
    assert KEY not in json.dumps(report)
    told = report["trace"]
    assert (told["file"], told["requests"], told["notes"]) == ("trace.csv", 2, ["synthesised from minutes"])
    assert (len(told["sha256"]), len(told["digest"]), told["mean_input_tokens"]) == (64, 64, 9.0)
    assert (report["goals"], report["warm_up"]) == ({"ttft_ms": 60000.0, "itl_ms": 60000.0}, 2)
    (result,) = report["targets"]
    assert len(bench.triton.calls) == 2 + 2 + 2  # the scale, the warm-up, the trace
    assert (result["requests"], result["goodput_percent"]) == (2, 100.0)
    assert result["output_tokens_per_s_per_gpu"] == pytest.approx(result["output_tokens_per_s"] / 4, abs=1e-3)
    assert result["gpu_cost"] == pytest.approx(2.5 * 4 * result["seconds"] / 3600, rel=1e-2)
    every = result["input_tokens"] + result["output_tokens"]
    assert result["gpu_cost_per_million_tokens"] == pytest.approx(result["gpu_cost"] / every * 1e6, rel=1e-3)
    assert [answer["output_tokens"] for answer in result["answers"]] == [3, 3]


async def test_targets_together_are_asked_at_the_same_moments(
    bench: Bench, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_API_KEY", KEY)
    trace.write_text(HEAD + "0,9,2\n")
    both = asyncio.Event()
    bench.triton.next_behaviours = [
        *(Behaviour() for _ in range(4)),
        Behaviour(until=both),
        Behaviour(until=both),
    ]
    url = f"{bench.url}/v1"
    running = asyncio.create_task(
        report_of(trace, "--url", url, "--url", url, "--model", "docs", "--together")
    )
    await eventually(lambda: len(bench.triton.calls) == 6)
    both.set()
    assert [result["completed"] for result in (await running)["targets"]] == [1, 1]


async def test_several_speeds_are_tried_one_after_another(
    bench: Bench, trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTH_API_KEY", KEY)
    report = await report_of(
        trace, "--url", f"{bench.url}/v1", "--model", "docs", "--speed", 5, "--speed", 10
    )
    assert [result["speed"] for result in report["targets"]] == [5, 10]
    assert [row["at_s"] for row in report["targets"][1]["answers"]] == pytest.approx(
        [0, 0.01, 0.032], abs=1e-3
    )
    assert capsys.readouterr().out.split("\n")[0].split() == [
        "target",
        "1",
        "x5",
        "target",
        "1",
        "x10",
        "change",
    ]


async def test_requests_share_the_beginnings_that_the_trace_tells(
    bench: Bench, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_API_KEY", KEY)

    async def prompts(content: str) -> list[list[str]]:
        trace.write_text(content)
        bench.triton.calls.clear()
        await report_of(trace, "--url", f"{bench.url}/v1", "--model", "docs")
        return [call.payload["text_input"].split()[1:] for call in bench.triton.calls[2:]]

    first, second = await prompts(
        "TIMESTAMP,ContextTokens,GeneratedTokens,CachedTokens\n0,40,1,20\n0.01,40,1,20\n"
    )
    assert first[:18] == second[:18]
    assert first[24:] != second[24:]
    row = '{"timestamp": %d, "input_length": 700, "output_length": 1, "hash_ids": [7, %d]}\n'
    first, second = await prompts(row % (0, 8) + row % (20, 9))
    assert len(first) == pytest.approx(700, abs=3)
    assert first[:500] == second[:500]
    assert first[520:] != second[520:]


async def test_the_local_log_of_a_gateway_gives_a_trace_of_an_endpoint(
    bench: Bench, trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTH_API_KEY", KEY)
    trace.write_text(HEAD + "0,9,2\n0.1,20,3\n")
    await report_of(trace, "--url", f"{bench.url}/v1", "--model", "docs")
    capsys.readouterr()
    usage_log.main([str(bench.folder), "--trace", "e1"])
    recorded = capsys.readouterr().out
    trace.write_text(recorded)
    requests = read_trace(trace).requests[2:]  # after the two that told the scale
    assert [each.output_tokens for each in requests] == [2, 3]
    assert [each.input_tokens for each in requests] == pytest.approx([9, 20], abs=2)
    assert requests[1].at_s - requests[0].at_s == pytest.approx(0.1, abs=0.09)
    usage_log.main([str(bench.folder), "--trace", "e2"])
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"timestamp": 0, "input_length": 4}\n', "line 1: it must be an object with the numbers timestamp"),
        (HEAD + "nan,2,3\n", "line 2: TIMESTAMP must be a time"),
        ("# note\n" + HEAD + "1,2,x\n", "line 3: token counts"),
    ],
)
def test_other_traces_that_cannot_be_read_say_where_and_why(
    trace: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    trace.write_text(content)
    assert main([str(trace), "--url", "http://127.0.0.1:1/v1", "--model", "m"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("A,B\n1,2\n", "has no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        (HEAD, "holds no requests"),
        (HEAD + "1,2,3\nnoon,2,3\n", "line 3: TIMESTAMP must be a time"),
        (HEAD + "1,2,many\n", "line 2: token counts must be whole numbers"),
        (HEAD + "1,-2,3\n", "line 2: token counts must not be negative"),
    ],
)
def test_a_trace_that_cannot_be_read_says_where_and_why(
    trace: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    trace.write_text(content)
    assert main([str(trace), "--url", "http://127.0.0.1:1/v1", "--model", "m"]) == 2
    assert words in capsys.readouterr().err


def test_options_that_do_not_fit_the_targets_are_refused(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = ["--url", "http://127.0.0.1:1/v1"]
    assert main([str(trace), *url, *url, *url, "--model", "a", "--model", "b"]) == 2
    assert "--model was given 2 times for 3 targets" in capsys.readouterr().err
    assert main([str(trace), *url, "--model", "a", "--gpu-price", "2"]) == 2
    assert "--gpu-price needs --gpus" in capsys.readouterr().err
    assert main([str(trace), *url, *url, "--model", "a", "--name", "x", "--name", "x"]) == 2
    assert "two targets have the same --name" in capsys.readouterr().err
    assert main(["--compare", str(trace), str(trace)]) == 2
    assert "is no JSON" in capsys.readouterr().err
