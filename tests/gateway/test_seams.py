"""Where one part of the gateway ends and the next begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from embedded.datadir import DataDir
from embedded.redis import Redis
from gateway.contract import Elsewhere, OnOverload, Route, SloClass, Snapshot, Tenant
from gateway.directory import Directory
from gateway.limits import SharedCounters, shared
from gateway.limits.charges import Charge, Verdict
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.engines import serving
from tests.gateway.farm import farm
from tests.gateway.world import KEY, OTHER_TENANT_KEY, PEPPER, World, replica

PROMPT = {"model": "docs", "prompt": "one two", "max_tokens": 5}


async def test_a_fallback_that_refuses_for_good_keeps_no_place(bench: Bench) -> None:
    async with farm(bench, "r1", "r2", "r3") as engines:
        bench.world.others = (
            engines.endpoint("e3", engines.replica("r2")),
            engines.endpoint("e4", engines.replica("r3")),
        )
        bench.world.more["classes"] = bench.world.classes(on_overload=OnOverload.FALLBACK)
        await engines.publish(routes=(engines.route("rev1", "r1"),), fallbacks=("e3", "e4"))
        engines.engines["r1"].behaviour = Behaviour(status=503, error="queue is full")
        engines.engines["r2"].behaviour = Behaviour(status=400, error="context_length_exceeded: 9 of 8")

        answer = await engines.ask("one two")

        assert answer.status == 200
        assert answer.headers["x-berth-fallback"] == "e4"
        assert bench.server is not None
        assert bench.server._book.outstanding == {}


async def test_a_shared_endpoint_never_stands_in_for_ones_own_that_must_stay_elsewhere(bench: Bench) -> None:
    own = Elsewhere(tenant_id="t1", project_id="p1", name="llama", residency="zone:US")
    shared = bench.world.endpoint(
        bench.triton.url, endpoint_id="e5", tenant_id="t9", project_id="p0", name="llama", shared=True,
        residency="global",
    )  # fmt: skip
    bench.world.others, bench.world.more["elsewhere"] = (shared,), (own,)
    bench.publish()
    await bench.settled()

    async with bench.post("/v1/completions", {**PROMPT, "model": "llama"}) as response:
        document = await response.json()
        assert (response.status, document["error"]["code"]) == (421, "wrong_region")
    async with bench.http.get(
        f"{bench.url}/v1/models", headers={"authorization": f"Bearer {KEY}"}
    ) as response:
        assert [each["id"] for each in (await response.json())["data"]] == ["docs"]
    assert bench.triton.calls == []
    # Whose project has none of that name may call it.
    async with bench.post("/v1/completions", {**PROMPT, "model": "llama"}, key=OTHER_TENANT_KEY) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("endpoints", "asked", "found"),
    [
        ("interactive", (), "interactive"),
        ("interactive", ("", "batch"), "batch"),
        ("interactive", ("idle", "batch"), "idle"),
        ("idle", ("standard", "batch"), "idle"),
        ("standard", ("interactive", ""), "standard"),
        ("interactive", ("gone", ""), "idle"),
    ],
)
def test_what_lowers_a_class_is_never_undone(endpoints: str, asked: tuple[str, ...], found: str) -> None:
    world = World()
    world.more["classes"] = (*world.classes(), SloClass(name="idle", priority=9))
    directory = Directory(world.snapshot("http://engine", slo_class=endpoints), peppers={7: PEPPER})
    endpoint = directory.by_id("e1")
    assert endpoint is not None

    assert directory.slo_class(endpoint, *asked).name == found


async def test_who_is_held_goes_to_no_endpoint_that_is_no_longer_theirs(bench: Bench) -> None:
    def publish(**changes: object) -> None:
        common = bench.world.endpoint(
            bench.triton.url, endpoint_id="e5", tenant_id="t9", project_id="p0", name="common"
        )
        bench.world.others = (msgspec.structs.replace(common, **changes),)
        bench.publish()

    publish(shared=True, state="scaled-to-zero", routes=())
    await bench.settled()
    headers = {"authorization": f"Bearer {KEY}", "x-scale-up-timeout": "15"}
    url = f"{bench.url}/v1/completions"
    asking = asyncio.create_task(bench.http.post(url, json={**PROMPT, "model": "common"}, headers=headers))
    await eventually(lambda: bool(bench.control.wakes))

    publish(shared=False)

    response = await asking
    assert (response.status, (await response.json())["error"]["code"]) == (404, "model_not_found")
    assert bench.triton.calls == []


@pytest.mark.parametrize(
    "counts", [{"prompt_tokens": -5}, {"completion_tokens": -7}, {"prompt_tokens": 2**70}]
)
async def test_an_engine_that_counts_what_cannot_be_is_not_believed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]
) -> None:
    monkeypatch.setattr("tests.fakes.trtllm_serve._usage", lambda *_: {"prompt_tokens": 2, **counts})
    async with serving(bench), bench.post("/v1/completions", PROMPT) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (502, "engine_error")
    await eventually(lambda: bench.totals().get("failed", {}).get("requests") == 1)
    assert bench.totals()["failed"]["input_tokens"] == bench.totals()["failed"]["output_tokens"] == 0


async def test_a_charge_whose_client_left_as_it_was_decided_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Redis(DataDir(tmp_path / "redis"))
    running.start()
    counters = SharedCounters(running.url(3), call_s=5.0)
    serving = asyncio.create_task(counters.run())
    try:
        await eventually(lambda: counters.available)
        charges = [Charge("berth:limits:test", 100, 60)]
        asking = asyncio.create_task(counters.enter(charges))

        def resolve(future: asyncio.Future[Verdict | None], verdict: Verdict | None) -> bool:
            future.set_result(verdict)
            return asking.cancel()

        with monkeypatch.context() as patch:
            patch.setattr(shared, "_resolve", resolve)
            with pytest.raises(asyncio.CancelledError):
                await asking

        async with asyncio.timeout(15):
            while (verdict := await counters.enter(charges)) is None or verdict.refused >= 0:
                await asyncio.sleep(0.05)
    finally:
        serving.cancel()
        running.stop()


async def test_a_tenant_of_no_share_waits_and_is_refused_as_others_are(idle: Bench) -> None:
    going = asyncio.Event()
    idle.triton.behaviour = Behaviour(until=going)
    only = msgspec.structs.replace(replica(idle.triton.url, replica_id="r9"), concurrency=1)
    idle.world.more["tenants"] = (Tenant(tenant_id="t1", name="Acme", share=0.0),)
    idle.publish(routes=(Route(revision_id="rev1", weight=1, replicas=(only,)),))
    server = await idle.ready(BERTH_GATEWAY_QUEUE_LIMIT="2")

    asking = [asyncio.create_task(idle.http_status("/v1/completions", PROMPT)) for _ in range(3)]
    await eventually(lambda: server._admission._waiting == 2)
    assert await idle.http_status("/v1/completions", PROMPT) == 429
    going.set()

    assert await asyncio.gather(*asking) == [200] * 3


async def test_no_more_are_held_for_an_endpoint_than_it_may_have(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.waking.MOST_HELD", 2)
    bench.publish(state="scaled-to-zero", routes=())
    await bench.settled()
    headers = {"authorization": f"Bearer {KEY}", "x-scale-up-timeout": "15"}
    url = f"{bench.url}/v1/completions"
    held = [asyncio.create_task(bench.http.post(url, json=PROMPT, headers=headers)) for _ in range(2)]
    await bench.in_flight(2)

    async with bench.http.post(url, json=PROMPT, headers=headers) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "endpoint_not_ready")
    bench.publish()
    assert [(await answer).status for answer in held] == [200, 200]


async def test_a_request_is_in_progress_where_it_is_served(bench: Bench) -> None:
    async def levels() -> dict[str, str]:
        async with bench.http.get(f"{bench.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        name = "berth_gateway_endpoint_in_flight{endpoint="
        return {line.split('"')[1]: line.split()[1] for line in lines if line.startswith(name)}

    async with farm(bench, "r1", "r2") as engines:
        bench.world.others = (engines.endpoint("e3", engines.replica("r2")),)
        bench.world.more["classes"] = bench.world.classes(on_overload=OnOverload.FALLBACK)
        await engines.publish(routes=(engines.route("rev1", "r1"),), fallbacks=("e3",))
        going = asyncio.Event()
        engines.engines["r1"].behaviour = Behaviour(status=503, error="queue is full")
        engines.engines["r2"].behaviour = Behaviour(until=going)
        asking = asyncio.create_task(engines.ask("one two"))
        await eventually(lambda: bool(engines.engines["r2"].calls))

        assert await levels() == {"e1": "0.0", "e3": "1.0"}
        going.set()
        assert (await asking).status == 200
        assert await levels() == {"e1": "0.0", "e3": "0.0"}


async def test_a_snapshot_that_could_not_be_taken_up_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.server is not None
    use, broken = bench.server._tokenizers.use, []

    def fail_twice(snapshot: Snapshot) -> None:
        if len(broken) < 2:
            broken.append(snapshot)
            raise ZeroDivisionError
        use(snapshot)

    monkeypatch.setattr(bench.server._tokenizers, "use", fail_twice)
    bench.publish(name="renamed")
    await bench.settled()

    assert len(broken) == 2
    assert await bench.http_status("/v1/completions", {**PROMPT, "model": "renamed"}) == 200
