"""From records to acknowledged segments: counted once, whatever crashes or goes astray."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import ITL_BOUNDS_MS, LATENCY_BOUNDS_MS, MOST_DAYS, Outcome
from gateway.engines.base import Delta
from gateway.metering import log as usage_log
from gateway.metering.meter import Meter
from gateway.metering.records import Totals, UsageRecord, add_days, count_segments
from gateway.ticket import Ticket
from gateway.usage_log import main, summarize
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import World

MIDNIGHT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC).timestamp()
CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}]}


def record(number: int, **changes: Any) -> UsageRecord:
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "ended_at": MIDNIGHT + number,
        "tenant_id": "t1",
        "project_id": "p1",
        "key_id": "k1",
        "outcome": Outcome.COMPLETED,
        "region": "eu",
        "endpoint_id": "e1",
        "input_tokens": 2,
        "output_tokens": 3,
        "cached_tokens": 1,
        "ttft_ms": 12.0,
        "itl_ms": 9.0,
    }
    return UsageRecord(**{**values, **changes})


records = st.builds(
    record,
    st.integers(-200_000, 200_000),
    tenant_id=st.sampled_from(["t1", "t2"]),
    key_id=st.sampled_from(["k1", "k2"]),
    endpoint_id=st.sampled_from(["", "e1"]),
    revision_id=st.sampled_from([None, "v1", "v2"]),
    outcome=st.sampled_from(Outcome),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    ttft_ms=st.none() | st.floats(0, 10**6),
    itl_ms=st.none() | st.floats(0, 10**6),
)


@given(st.lists(records), st.integers(1, 10**9))
def test_segments_hold_every_record_once(rows: list[UsageRecord], first: int) -> None:
    segments = count_segments(rows, gateway="gw", first_sequence=first)

    assert [segment.sequence for segment in segments] == list(range(first, first + len(segments)))
    for field in ("input_tokens", "output_tokens", "cached_tokens"):
        assert sum(getattr(s, field) for s in segments) == sum(getattr(r, field) for r in rows)
    assert sum(segment.requests for segment in segments) == len(rows)
    for field in ("input_tokens", "output_tokens"):
        squares = sum(getattr(r, field) ** 2 for r in rows)
        assert sum(getattr(s, f"{field}_squared") for s in segments) == squares
    for field in ("ttft_ms", "itl_ms"):
        known = sum(getattr(r, field) is not None for r in rows)
        assert sum(sum(getattr(s, field)) for s in segments) == known
    for segment in segments:
        assert segment.window_start <= segment.window_end
        assert minute(segment.window_start) == minute(segment.window_end)
        assert segment.window_start.date() == segment.day
    keys = [
        (s.tenant_id, minute(s.window_end), s.key_id, s.endpoint_id, s.revision_id, s.outcome)
        for s in segments
    ]
    assert len(keys) == len(set(keys))


def minute(moment: dt.datetime) -> dt.datetime:
    return moment.replace(second=0, microsecond=0)


def test_midnight_in_utc_divides_segments() -> None:
    segments = count_segments([record(-1), record(0), record(1)], gateway="gw", first_sequence=1)

    assert [(s.day.isoformat(), s.requests) for s in segments] == [("2026-02-28", 1), ("2026-03-01", 2)]


def test_each_minute_has_segments_of_its_own() -> None:
    rows = [record(second) for second in (0, 59, 60, 61, 150)]

    segments = count_segments(rows, gateway="gw", first_sequence=1)

    assert [(s.window_end.minute, s.requests) for s in segments] == [(0, 2), (1, 2), (2, 1)]


def test_latency_buckets_are_bounded_from_above() -> None:
    rows = [record(i, ttft_ms=value) for i, value in enumerate((0.5, 5.0, 5.1, 60_000.0, 60_000.1))]

    (segment,) = count_segments(rows, gateway="gw", first_sequence=1)

    assert len(segment.ttft_ms) == len(LATENCY_BOUNDS_MS) + 1
    assert (segment.ttft_ms[0], segment.ttft_ms[1]) == (2, 1)
    assert segment.ttft_ms[-2:] == (1, 1)


def test_times_between_tokens_have_bounds_of_their_own() -> None:
    rows = [record(i, itl_ms=value) for i, value in enumerate((0.0, 2.0, 2.1, 12.5, 1_000.0, 1_000.1))]

    (segment,) = count_segments([*rows, record(9, itl_ms=None)], gateway="gw", first_sequence=1)

    assert len(segment.itl_ms) == len(ITL_BOUNDS_MS) + 1
    assert (segment.itl_ms[0], segment.itl_ms[1], segment.itl_ms[ITL_BOUNDS_MS.index(12.5)]) == (2, 1, 1)
    assert segment.itl_ms[-2:] == (1, 1)
    assert sum(segment.ttft_ms) == 7


def test_squares_tell_the_spread_of_lengths() -> None:
    rows = [record(i, input_tokens=i, output_tokens=10 * i) for i in (1, 2, 4)]

    (segment,) = count_segments(rows, gateway="gw", first_sequence=1)

    assert (segment.input_tokens_squared, segment.output_tokens_squared) == (21, 2_100)


class Crash(BaseException):
    """Stands for the end of the process at that instant."""


@pytest.mark.parametrize("step", ["replace", "fsync", "unlink"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_crash_at_any_durable_step_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str, nth: int
) -> None:
    real = getattr(os, step)
    calls = 0

    def crash(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != nth:
            return real(*arguments, **options)
        if when == "after":
            real(*arguments, **options)
        raise Crash

    meter = Meter(tmp_path, gateway="gw")
    sent: dict[int, int] = {}
    appended = 0
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr(os, step, crash)
        for number in range(6):
            meter.append(record(number))
            appended += 1
            meter.cut_now()
            if number % 2:
                ship(meter, sent)

    restarted = Meter(tmp_path, gateway="gw")
    ship(restarted, sent)

    assert sum(sent.values()) == appended == summarize(tmp_path)["total"]["requests"]
    assert sum(day.requests for day in restarted.spool.last.days.values()) == appended
    assert sorted(sent) == list(range(1, len(sent) + 1))


def ship(meter: Meter, sent: dict[int, int]) -> None:
    """Send everything, as the shipper does, to a receiver that knows segments by their sequence."""
    while batch := meter.spool.next_batch():
        for cut in batch:
            for segment in cut.segments:
                assert sent.setdefault(segment.sequence, segment.requests) == segment.requests
        meter.spool.acknowledge(batch)


async def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    meter = Meter(tmp_path, gateway="gw")
    meter.append(record(1))
    (file,) = (tmp_path / "log").iterdir()
    with file.open("ab") as torn:
        torn.write(b'{"request_id": "r2", "ended')

    restarted = Meter(tmp_path, gateway="gw")
    restarted.append(record(3))
    await restarted.cut()

    assert summarize(tmp_path)["total"]["requests"] == 2


async def test_a_full_disk_is_told_and_forgotten_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter(tmp_path, gateway="gw")
    real = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, content: _short(real, fd, content))
        with pytest.raises(OSError, match="No space"):
            meter.append(record(1))
        assert not meter.writable
    meter.append(record(2))
    await meter.cut()

    assert meter.writable
    assert summarize(tmp_path)["total"]["requests"] == 1


async def test_a_gateway_that_nobody_asks_notices_by_itself_that_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer sends nothing to a gateway that is not ready, so that no request can tell."""
    meter = Meter(tmp_path, gateway="gw")
    real = os.write
    tried: list[int] = []

    def full_disk(descriptor: int, content: bytes) -> int:
        tried.append(descriptor)
        return _short(real, descriptor, content)

    running = asyncio.create_task(meter.run(window_s=60, on_cut=lambda: None))
    with monkeypatch.context() as full:
        full.setattr(os, "write", full_disk)
        with pytest.raises(OSError, match="No space"):
            meter.append(record(1))
        tried.clear()
        await eventually(lambda: len(tried) >= 1)  # it looks, and there is none yet
        assert not meter.writable
    await eventually(lambda: meter.writable)
    running.cancel()
    meter.append(record(2))
    await meter.cut()
    assert summarize(tmp_path)["total"]["requests"] == 1


def _short(real: Any, descriptor: int, content: bytes) -> int:
    if len(content) > 100:
        return int(real(descriptor, content[:-100]))
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_log_files_rotate_and_go_once_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "ROTATE_BYTES", 1_000)
    meter = Meter(tmp_path, gateway="gw")
    for number in range(50):
        meter.append(record(number))
        if number % 5 == 4:
            await meter.cut()
    files = len(list((tmp_path / "log").iterdir()))

    while batch := meter.spool.next_batch():
        meter.spool.acknowledge(batch)
    meter.remove_shipped()

    assert files > 5
    assert len(list((tmp_path / "log").iterdir())) <= 2
    assert list((tmp_path / "spool").iterdir()) == []
    assert summarize(tmp_path)["total"]["requests"] == 50
    assert Meter(tmp_path, gateway="gw").spool.last.next_sequence == 11


async def test_batches_are_bounded_and_in_order(bench: Bench) -> None:
    await bench.stop()
    await bench.control.stop()
    meter = Meter(bench.folder, gateway="gw-1")
    for number in range(2_300):
        meter.append(record(number, key_id=f"k{number}"))
    await meter.cut()
    for number in range(5):
        meter.append(record(number))
        await meter.cut()
    await meter.close()

    await bench.control.start()
    await bench.start()
    await eventually(lambda: len(bench.control.segments) == 2_305)

    assert max(bench.control.batches) <= 1_000
    # Never ahead of what has come: the totals go with the last piece of what they reach to.
    assert [(requests, came) for _, requests, came in bench.control.told] == [(2_300, 2_300), (2_305, 2_305)]
    assert bench.control.sequences == list(range(1, 2_306))


@given(st.lists(records, max_size=8), st.lists(records, max_size=8))
def test_totals_of_days_are_of_the_records_of_the_last_days(
    rows: list[UsageRecord], more: list[UsageRecord]
) -> None:
    days = add_days(add_days({}, rows), more)

    def day(row: UsageRecord) -> str:
        return dt.datetime.fromtimestamp(row.ended_at, dt.UTC).date().isoformat()

    assert list(days) == sorted({day(row) for row in [*rows, *more]})[-MOST_DAYS:]
    newest = list(days)[-1:]
    for name in newest:
        found = [row for row in [*rows, *more] if day(row) == name]
        assert days[name] == Totals(
            requests=len(found),
            input_tokens=sum(row.input_tokens for row in found),
            output_tokens=sum(row.output_tokens for row in found),
            cached_tokens=sum(row.cached_tokens for row in found),
        )


async def test_usage_is_shipped_while_serving(bench: Bench) -> None:
    for _ in range(3):
        assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    assert await bench.http_status("/v1/chat/completions", {**CHAT, "model": "absent"}) == 404

    await eventually(lambda: bench.control.requests() == {"completed": 3, "refused": 1})
    served = [s for s in bench.control.segments.values() if s.outcome == "completed"]
    assert sum(s.input_tokens for s in served) == 12
    assert sum(s.output_tokens for s in served) == 15
    segment = served[0]
    assert (segment.tenant_id, segment.project_id, segment.key_id) == ("t1", "p1", "k1")
    assert (segment.endpoint_id, segment.revision_id, segment.model) == ("e1", "rev1", "tiny")
    assert (segment.slo_class, segment.region) == ("interactive", "eu-de-1")
    assert segment.gateway == f"gw-1/{(bench.folder / 'instance').read_text()}"
    assert bench.control.tokens == {"Bearer gateway-token"}


@pytest.mark.parametrize("stream", [True, False])
async def test_the_mean_time_between_tokens_is_measured_streamed_or_not(bench: Bench, stream: bool) -> None:
    bench.triton.behaviour = Behaviour(tokens=5, delay_s=0.12, first_delay_s=0.3)

    assert await bench.http_status("/v1/chat/completions", {**CHAT, "stream": stream}) == 200
    await eventually(lambda: bench.control.requests() == {"completed": 1})

    (segment,) = bench.control.segments.values()
    (place,) = [place for place, count in enumerate(segment.itl_ms) if count]
    assert ITL_BOUNDS_MS[place] in (130, 160, 200)
    assert segment.output_tokens_squared == 25
    metrics = await (await bench.http.get(f"{bench.url}/metrics")).text()
    assert 'berth_gateway_itl_seconds_count{endpoint="e1",slo_class="interactive"} 1.0' in metrics


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(tokens=1, delay_s=0.05),
        Behaviour(tokens=5, burst=True),
        Behaviour(tokens=0, status=500),
    ],
    ids=["one token", "all at once", "none"],
)
async def test_answers_that_do_not_tell_the_time_between_tokens_are_left_out(
    bench: Bench, behaviour: Behaviour
) -> None:
    bench.triton.behaviour = behaviour

    await bench.http_status("/v1/chat/completions", CHAT)
    await eventually(lambda: len(bench.control.segments) == 1)

    (segment,) = bench.control.segments.values()
    assert segment.itl_ms == ()


async def test_tokens_that_came_together_first_are_no_intervals() -> None:
    records: list[UsageRecord] = []
    ticket = Ticket(request_id="r", key=World().keys[0], region="eu", write=records.append)
    ticket.count([Delta("a b c", 3, 4, 0, None), Delta(" d", 1, 4, 0, None)])
    await asyncio.sleep(0.1)
    ticket.count([Delta(" e f", 2, 4, 0, None)])
    ticket.count([Delta("", 0, 4, 0, "stop")])
    ticket.close(Outcome.COMPLETED)

    (written,) = records
    assert written.output_tokens == 6
    assert written.itl_ms is not None
    assert 45 < written.itl_ms < 500, "0.1 s for the last two tokens"


async def test_a_lost_data_folder_begins_under_another_instance(bench: Bench) -> None:
    for expected in (1, 2):
        assert await bench.http_status("/v1/chat/completions", CHAT) == 200
        await eventually(lambda expected=expected: bench.control.requests() == {"completed": expected})
        await bench.stop()
        shutil.rmtree(bench.folder)
        await bench.ready()

    # A gateway that stops before it has read the receipt sends a segment again: what counts are identities.
    folders = {(segment.gateway, segment.sequence) for segment in bench.control.segments.values()}
    assert len(folders) == 2
    assert {sequence for _, sequence in folders} == {1}


async def test_a_lost_receipt_repeats_the_same_segments(bench: Bench) -> None:
    bench.control.lose_receipts = 2

    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await eventually(lambda: len(bench.control.sequences) >= 3)
    await bench.stop()

    assert bench.control.sequences[:3] == [1, 1, 1]
    assert bench.control.requests() == {"completed": 1}


async def test_a_batch_that_is_not_accepted_is_kept(bench: Bench) -> None:
    bench.control.usage_status = 500
    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await bench.stop()
    assert bench.control.segments == {}

    bench.control.usage_status = 200
    await bench.start()

    await eventually(lambda: bench.control.requests() == {"completed": 1})


async def test_refused_segments_are_put_aside_and_the_rest_goes_on(bench: Bench) -> None:
    bench.control.refuse = {1: "its day partition was dropped"}

    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await eventually(lambda: 1 in bench.control.sequences)
    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await eventually(lambda: bench.control.requests() == {"completed": 1})

    (kept,) = (bench.folder / "refused").iterdir()
    document = json.loads(kept.read_text())
    assert document["reason"] == "its day partition was dropped"
    assert document["segment"]["sequence"] == 1
    assert summarize(bench.folder)["refused_segments"] == 1


async def test_the_log_holds_no_prompt_and_no_answer(bench: Bench) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "a-secret-word"}]}
    assert await bench.http_status("/v1/chat/completions", body) == 200
    await bench.stop()

    for path in bench.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"a-secret-word" not in content
            assert b"w0" not in content


async def test_a_log_that_cannot_be_written_fails_the_request(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, content: _short(real, fd, content))
        assert await bench.http_status("/v1/chat/completions", CHAT) == 500
        async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
            body = (await response.read()).decode()
        assert '"code":"internal_error"' in body.split("\n\n")[-2]
        assert "[DONE]" not in body
        async with bench.http.get(f"{bench.url}/readyz") as response:
            assert response.status == 503

    assert await bench.http_status("/v1/chat/completions", CHAT) == 200
    await eventually(lambda: bench.control.requests() == {"completed": 1})


def test_totals_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meter = Meter(tmp_path, gateway="gw")
    meter.append(record(1))
    asyncio.run(meter.cut())
    meter.append(record(2, outcome=Outcome.CANCELLED))

    main([str(tmp_path)])

    printed = json.loads(capsys.readouterr().out)
    assert printed["total"] == {
        "requests": 2, "input_tokens": 4, "output_tokens": 6, "cached_tokens": 2,
    }  # fmt: skip
    assert printed["uncut"]["requests"] == 1
    assert printed["unacknowledged_segments"] == 1
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nothing")])
