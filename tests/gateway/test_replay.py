"""``python -m gateway.replay``: a trace's traffic against OpenAI endpoints, through the command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from gateway.replay.__main__ import main
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench
from tests.gateway.world import KEY, UNKNOWN_KEY

ROOT = Path(__file__).parents[2]
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
TRACE = HEAD + (
    "2023-11-16 18:15:46.6805900,30,4\n2023-11-16 18:15:46.7805901,12,3\n2023-11-16 18:15:47.0000000,20,5\n"
)


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
    (report,) = json.loads(out)
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
    (report,) = json.loads(out)
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
    assert prompts[2:5] == prompts[7:10]
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
