"""A batch from upload to download, with the official client."""

from __future__ import annotations

import asyncio
import json

import msgspec
import openai
import pytest

from gateway.contract import NamedRoute, RateLimits, RouteRule, RouteTarget
from tests.fakes.triton import Behaviour
from tests.gateway.batches.conftest import ENDED, Desk, chat_line, jsonl
from tests.gateway.conftest import eventually
from tests.gateway.engines import serving
from tests.gateway.world import CREATED, KEY, OTHER_PROJECT_KEY, OTHER_TENANT_KEY
from tests.gateway.world import key as make_key


async def test_a_batch_is_uploaded_run_and_downloaded(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=3)
    lines = [chat_line(number, content=f"question {number}") for number in range(20)]
    batch = await desk.submit(jsonl(lines), metadata={"night": "one"})

    assert batch.status == "validating"
    done = await desk.until(batch.id, "completed")
    output = await desk.lines(done.output_file_id)

    assert [line["custom_id"] for line in output] == [line["custom_id"] for line in lines]
    for line in output:
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        body = line["response"]["body"]
        assert body["choices"][0]["message"]["content"] == "w0 w1 w2 "
        assert body["id"] == f"chatcmpl-{line['response']['request_id']}"
    assert len({line["id"] for line in output}) == 20
    assert done.error_file_id is None
    assert done.errors is None
    assert done.metadata == {"night": "one"}
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert done.in_progress_at
    assert done.finalizing_at
    assert done.completed_at
    assert done.expires_at == done.created_at + 24 * 3600


async def test_every_line_is_one_request_of_the_meter_in_class_batch(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=3)
    batch = await desk.submit(jsonl([chat_line(number) for number in range(7)]))
    await desk.until(batch.id, "completed")
    assert await desk.bench.http_status("/v1/chat/completions", chat_line(0)["body"]) == 200

    await eventually(lambda: desk.bench.control.requests() == {"completed": 8})
    by_class: dict[str, list[int]] = {}
    for segment in desk.bench.control.segments.values():
        sums = by_class.setdefault(segment.slo_class, [0, 0])
        sums[0] += segment.requests
        sums[1] += segment.output_tokens
    assert by_class == {"batch": [7, 21], "interactive": [1, 3]}


async def test_lines_that_fail_are_in_the_error_file_with_what_a_client_would_have_got(desk: Desk) -> None:
    lines = [chat_line(0), chat_line(1, max_tokens=1000), chat_line(2), chat_line(3, colour="red")]
    batch = await desk.submit(jsonl(lines))
    done = await desk.until(batch.id, "completed")

    assert [line["custom_id"] for line in await desk.lines(done.output_file_id)] == ["line-0", "line-2"]
    failed = await desk.lines(done.error_file_id)
    assert [(line["custom_id"], line["response"]["status_code"]) for line in failed] == [
        ("line-1", 400),
        ("line-3", 400),
    ]
    assert failed[0]["response"]["body"]["error"]["code"] == "max_tokens_too_large"
    assert failed[1]["response"]["body"]["error"]["param"] == "colour"
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
    await eventually(lambda: desk.bench.control.requests() == {"completed": 2, "refused": 2})


async def test_completions_may_be_asked_too(desk: Desk) -> None:
    line = {**chat_line(0), "url": "/v1/completions", "body": {"model": "docs", "prompt": "once"}}
    batch = await desk.submit(jsonl([line]), endpoint="/v1/completions")
    done = await desk.until(batch.id, "completed")

    (output,) = await desk.lines(done.output_file_id)
    assert output["response"]["body"]["object"] == "text_completion"


BAD_LINES = [
    (b'{"custom_id": "a"\n', "invalid_json_line", 1),
    (b'\xff\xfe\n', "invalid_json_line", 1),
    (rb'{"custom_id": "\ud800", "method": "POST", "url": "/v1/chat/completions", "body": {}}' + b"\n",
     "invalid_json_line", 1),
    (b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"a": "\xff"}}\n',
     "invalid_body", 1),
    (b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": ' + b"[" * 100_000 + b"\n",
     "invalid_json_line", 1),
    (jsonl([chat_line(0)]) + b"[1]\n", "invalid_request", 2),
    (jsonl([{**chat_line(0), "custom_id": 3}]), "invalid_request", 1),
    (jsonl([{key: value for key, value in chat_line(0).items() if key != "body"}]), "invalid_request", 1),
    (jsonl([{**chat_line(0), "custom_id": ""}]), "invalid_custom_id", 1),
    (jsonl([chat_line(0)]) + b"\n" + jsonl([chat_line(0)]), "duplicate_custom_id", 3),
    (jsonl([{**chat_line(0), "method": "GET"}]), "invalid_method", 1),
    (jsonl([{**chat_line(0), "url": "/v1/completions"}]), "invalid_url", 1),
    (jsonl([{**chat_line(0), "body": [1]}]), "invalid_body", 1),
    (jsonl([{**chat_line(0), "body": {"messages": []}}]), "missing_required_parameter", 1),
    (jsonl([chat_line(0), chat_line(1, model="other")]), "mismatched_model", 2),
    (jsonl([chat_line(0, stream=True)]), "unsupported_parameter", 1),
    (jsonl([chat_line(0, model="theirs")]), "model_not_found", None),
    (jsonl([chat_line(0, content="x" * 5_000_000)]), "line_too_long", 1),
    (b"\n \n", "empty_file", None),
    (b"", "empty_file", None),
    (b"".join(b'{"custom_id":"%d"}\n' % n for n in range(60)), "invalid_request", 1),
]  # fmt: skip


@pytest.mark.parametrize(("content", "code", "line"), BAD_LINES)
async def test_an_input_that_cannot_be_run_fails_before_anything_runs(
    desk: Desk, content: bytes, code: str, line: int | None
) -> None:
    batch = await desk.submit(content)
    failed = await desk.until(batch.id, "failed")

    assert failed.errors is not None
    assert failed.errors.data
    assert len(failed.errors.data) <= 50
    assert (failed.errors.data[0].code, failed.errors.data[0].line) == (code, line)
    assert failed.failed_at
    assert failed.output_file_id is None
    assert failed.error_file_id is None
    assert desk.bench.triton.calls == []


async def test_more_than_50_000_lines_are_refused(desk: Desk) -> None:
    line = chat_line(0)
    many = b"".join(json.dumps({**line, "custom_id": str(n)}).encode() + b"\n" for n in range(50_001))
    batch = await desk.submit(many)
    failed = await desk.until(batch.id, "failed")

    assert failed.errors is not None
    assert failed.errors.data
    assert (failed.errors.data[0].code, failed.errors.data[0].line) == ("too_many_lines", 50_001)


@pytest.mark.parametrize(
    ("order", "param"),
    [
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"completion_window": "1w"}, "completion_window"),
        ({"completion_window": "73h"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"input_file_id": "file-" + "0" * 24}, "input_file_id"),
        ({"input_file_id": "../../up"}, "input_file_id"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"colour": 1}, None),
    ],
)
async def test_wrong_orders_are_refused(desk: Desk, order: dict[str, object], param: str | None) -> None:
    body = {
        "input_file_id": await desk.upload(jsonl([chat_line(0)])),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        **order,
    }
    async with desk.bench.post("/v1/batches", body) as response:
        document = await response.json()
        assert response.status == 400
        assert response.headers["x-should-retry"] == "false"
    assert document["error"]["param"] == param


async def test_an_output_cannot_be_an_input(desk: Desk) -> None:
    done = await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")
    with pytest.raises(openai.BadRequestError) as caught:
        await desk.client().batches.create(
            input_file_id=str(done.output_file_id),
            endpoint="/v1/chat/completions",
            completion_window="24h",
        )
    assert caught.value.param == "input_file_id"


async def test_batches_are_listed_newest_first_and_in_pages(desk: Desk) -> None:
    ids = [(await desk.submit(jsonl([chat_line(0)]))).id for _ in range(5)]

    page = await desk.client().batches.list(limit=2)
    assert [batch.id for batch in page.data] == ids[:2:-1]
    assert page.has_more
    assert [batch.id async for batch in desk.client().batches.list(limit=2)] == ids[::-1]
    for query in ("limit=0", "limit=101", "limit=x", "after=batch_nothing"):
        async with desk.bench.http.get(
            f"{desk.bench.url}/v1/batches?{query}", headers={"authorization": f"Bearer {KEY}"}
        ) as response:
            assert response.status == 400


async def test_another_projects_and_another_tenants_batches_and_files_are_not_found(desk: Desk) -> None:
    done = await desk.until((await desk.submit(jsonl([chat_line(0)]))).id, "completed")

    for key in (OTHER_PROJECT_KEY, OTHER_TENANT_KEY):
        stranger = desk.client(key)
        assert (await stranger.batches.list()).data == []
        assert (await stranger.files.list()).data == []
        for asking in (
            stranger.batches.retrieve(done.id),
            stranger.batches.cancel(done.id),
            stranger.files.retrieve(done.input_file_id),
            stranger.files.content(str(done.output_file_id)),
            stranger.files.delete(done.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                await asking
        with pytest.raises(openai.BadRequestError):
            await stranger.batches.create(
                input_file_id=done.input_file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
            )
    assert await desk.lines(done.output_file_id)


async def test_cancelling_lets_lines_in_flight_end_and_runs_no_more(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=4, delay_s=0.05)
    batch = await desk.submit(jsonl([chat_line(number) for number in range(300)]))
    await eventually(lambda: len(desk.bench.triton.calls) >= 3)

    cancelling = await desk.client().batches.cancel(batch.id)
    assert cancelling.status in ("cancelling", "cancelled")
    assert cancelling.cancelling_at
    done = await desk.until(batch.id, "cancelled")

    asked = len(desk.bench.triton.calls)
    assert asked < 300
    output, failed = await desk.lines(done.output_file_id), await desk.lines(done.error_file_id)
    assert len(output) == asked
    assert {line["error"]["code"] for line in failed} == {"batch_cancelled"}
    assert len(output) + len(failed) == 300
    assert done.cancelled_at
    with pytest.raises(openai.ConflictError):
        await desk.client().batches.cancel(batch.id)


async def test_what_is_not_run_when_the_window_ends_has_expired(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=1)
    desk.bench.triton.next_behaviours = [Behaviour(tokens=1), Behaviour(tokens=1)]
    desk.bench.publish(state="ready")
    desk.bench.triton.behaviour = Behaviour(tokens=2, delay_s=0.3)
    batch = await desk.submit(jsonl([chat_line(number) for number in range(300)]), completion_window="2h")
    await eventually(lambda: len(desk.bench.triton.calls) >= 4)
    desk.clock.ahead_s = 2 * 3600

    done = await desk.until(batch.id, "expired")

    output, failed = await desk.lines(done.output_file_id), await desk.lines(done.error_file_id)
    assert len(output) == len(desk.bench.triton.calls)
    assert len(output) + len(failed) == 300
    assert {(line["error"]["code"], line["response"]) for line in failed} == {("batch_expired", None)}
    assert done.expired_at
    assert done.request_counts is not None
    assert done.request_counts.total == 300


async def test_an_engine_without_room_is_asked_again_and_no_line_fails(desk: Desk) -> None:
    full = Behaviour(status=503, error="full")
    desk.bench.triton.next_behaviours = [full] * 6
    batch = await desk.submit(jsonl([chat_line(number) for number in range(5)]))
    done = await desk.until(batch.id, "completed")

    assert len(await desk.lines(done.output_file_id)) == 5
    assert done.error_file_id is None
    assert done.errors is None


async def test_an_endpoint_that_is_not_ready_is_waited_for_and_named_meanwhile(desk: Desk) -> None:
    desk.bench.publish(state="paused", routes=())
    await desk.bench.settled()
    batch = await desk.submit(jsonl([chat_line(0)]))
    client = desk.client()

    async with asyncio.timeout(60):
        while not (waiting := await client.batches.retrieve(batch.id)).errors:
            await asyncio.sleep(0.05)
    assert waiting.status == "in_progress"
    assert waiting.errors is not None
    assert waiting.errors.data
    assert waiting.errors.data[0].code == "endpoint_not_ready"
    await client.batches.cancel(batch.id)
    await desk.until(batch.id, "cancelled")


@pytest.mark.parametrize("lost", ["revoked", "expired"])
async def test_a_batch_ends_with_the_key_that_made_it(desk: Desk, lost: str) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=2, delay_s=0.1)
    desk.bench.world.keys += (make_key(mine := _spare(), "spare"),)
    desk.bench.publish()
    await desk.bench.settled()
    batch = await desk.submit(jsonl([chat_line(number) for number in range(300)]), key=mine)
    await eventually(lambda: len(desk.bench.triton.calls) >= 2)

    rest = desk.bench.world.keys[:-1]
    gone = (make_key(mine, "spare", expires_at=CREATED),) if lost == "expired" else ()
    desk.bench.world.keys = rest + gone
    desk.bench.publish()
    failed = await desk.until(batch.id, "failed")

    assert failed.errors is not None
    assert failed.errors.data
    code = {"revoked": "api_key_revoked", "expired": "expired_api_key"}[lost]
    assert failed.errors.data[0].code == code
    # What was paid for is given all the same.
    output, rest_of_lines = await desk.lines(failed.output_file_id), await desk.lines(failed.error_file_id)
    assert len(output) + len(rest_of_lines) == 300
    assert {line["error"]["code"] for line in rest_of_lines} == {code}


def _spare() -> str:
    from tests.gateway.world import make_key as text_of

    return text_of("f")


async def test_a_batch_ends_when_its_input_is_deleted(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(tokens=2, delay_s=0.1)
    batch = await desk.submit(jsonl([chat_line(number) for number in range(300)]))
    await eventually(lambda: len(desk.bench.triton.calls) >= 2)
    await desk.client().files.delete(batch.input_file_id)

    failed = await desk.until(batch.id, "failed")
    assert failed.errors is not None
    assert failed.errors.data
    assert failed.errors.data[0].code == "input_file_deleted"
    assert len(await desk.lines(failed.output_file_id)) == len(desk.bench.triton.calls)


async def test_a_tenant_may_have_so_many_batches_at_once(desk: Desk) -> None:
    desk.bench.triton.behaviour = Behaviour(hang_after=0)
    await desk.restart(BERTH_GATEWAY_OPEN_BATCHES="2", BERTH_GATEWAY_DRAIN_S="0.1")
    first, second = [await desk.submit(jsonl([chat_line(0)])) for _ in range(2)]
    with pytest.raises(openai.ConflictError, match="may have 2 at once"):
        await desk.submit(jsonl([chat_line(0)]))
    assert {first.status, second.status}.isdisjoint(ENDED)


async def test_metrics_count_files_batches_and_lines(desk: Desk) -> None:
    lines = [chat_line(0), chat_line(1, max_tokens=1000)]
    await desk.until((await desk.submit(jsonl(lines))).id, "completed")

    async def shown() -> str:
        async with desk.bench.http.get(f"{desk.bench.url}/metrics") as response:
            return await response.text()

    async with asyncio.timeout(20):
        while 'berth_gateway_batches{state="completed"} 1.0' not in (text := await shown()):
            await asyncio.sleep(0.05)
    assert 'berth_gateway_batch_lines_total{outcome="completed"} 1.0' in text
    assert 'berth_gateway_batch_lines_total{outcome="failed"} 1.0' in text
    assert "berth_gateway_files " in text


async def test_a_line_that_no_minute_can_take_is_refused_and_holds_up_no_other(desk: Desk) -> None:
    keys = desk.bench.world.keys
    limits = RateLimits(tokens_per_minute=2_000)
    desk.bench.world.keys = (msgspec.structs.replace(keys[0], rates=limits), *keys[1:])
    desk.bench.publish(context_tokens=10_000, max_output_tokens=5_000)
    await desk.bench.settled()
    lines = [chat_line(number, max_tokens=3_000 if number == 1 else 5) for number in range(4)]
    done = await desk.until((await desk.submit(jsonl(lines))).id, "completed")

    assert len(await desk.lines(done.output_file_id)) == 3
    (refused,) = await desk.lines(done.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("line-1", 429)


async def test_a_batch_may_ask_a_named_route(desk: Desk) -> None:
    route = NamedRoute(
        route_id="nr1",
        tenant_id="t1",
        project_id="p1",
        name="best",
        created_at=CREATED,
        rules=(RouteRule(targets=(RouteTarget(endpoint_id="e1"),)),),
    )
    desk.bench.world.more = {"named_routes": (route,)}
    desk.bench.publish()
    await desk.bench.settled()
    done = await desk.until((await desk.submit(jsonl([chat_line(0, model="best")]))).id, "completed")

    assert len(await desk.lines(done.output_file_id)) == 1
    await eventually(lambda: desk.bench.control.requests() == {"completed": 1})
    (segment,) = desk.bench.control.segments.values()
    assert (segment.route_id, segment.slo_class) == ("nr1", "batch")


async def test_embeddings_may_be_asked_too(desk: Desk) -> None:
    async with serving(desk.bench):
        line = {**chat_line(0), "url": "/v1/embeddings", "body": {"model": "docs", "input": "a b"}}
        batch = await desk.submit(jsonl([line]), endpoint="/v1/embeddings")
        done = await desk.until(batch.id, "completed")

    (output,) = await desk.lines(done.output_file_id)
    assert output["response"]["body"]["data"][0]["object"] == "embedding"
