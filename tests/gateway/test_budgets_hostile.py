"""Budgets and leases that cannot be understood, and clocks that go back: nobody else suffers for it."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from gateway.contract import Grant
from tests.gateway.conftest import Bench, eventually
from tests.gateway.test_budgets import HOLD, USED, ask, budget, give
from tests.gateway.world import OTHER_PROJECT_KEY, key


@pytest.mark.parametrize("amount", ["NaN", "much", "1e999999", "-Infinity"])
async def test_a_grant_that_is_no_amount_is_refused_and_the_next_one_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, amount: str
) -> None:
    ledger = bench.control.ledger
    honest, broken = ledger._grant, []

    def grant(*arguments: Any) -> Grant:
        given = honest(*arguments)
        if len(broken) < 3:
            broken.append(given)
            return msgspec.structs.replace(given, settled=amount)
        return given

    monkeypatch.setattr(ledger, "_grant", grant)
    await give(bench, budget(10_000))
    await eventually(lambda: len(broken) == 3)

    assert (await ask(bench))[0] == 200
    await eventually(lambda: ledger.settled("b1") == USED)


@pytest.mark.parametrize(
    "wrong", [{"limit": "plenty"}, {"time_zone": "Mars/Olympus"}, {"time_zone": "Europe"}]
)
async def test_a_budget_that_is_not_understood_refuses_its_own_alone(
    bench: Bench, wrong: dict[str, Any]
) -> None:
    others = budget(10_000, budget_id="b2", owner_id="p2")
    second = bench.world.endpoint(bench.triton.url, endpoint_id="e9", project_id="p2")
    bench.world.others = (second,)
    bench.world.keys = (*bench.world.keys[:1], key(OTHER_PROJECT_KEY, "k2", project="p2"))
    bench.control.ledger.budgets = {"b2": others}
    bench.world.more = {"budgets": (msgspec.structs.replace(budget(10_000), **wrong), others)}
    bench.publish()
    await bench.settled()

    status, body, headers = await ask(bench)
    assert (status, body["error"]["code"]) == (503, "budget_unusable")
    assert "'Search'" in body["error"]["message"]
    assert headers["x-should-retry"] == "false"
    chat = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}
    async with bench.post("/v1/chat/completions", chat, key=OTHER_PROJECT_KEY) as response:
        assert response.status == 200
    # It is corrected, and pays.
    await give(bench, budget(10_000))
    assert (await ask(bench))[0] == 200


async def test_leases_go_on_after_a_start_with_a_clock_that_was_put_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give(bench, budget(HOLD * 100))
    assert (await ask(bench))[0] == 200
    await bench.stop()
    before = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: before() - 86_400 * 10**9)

    await bench.ready()

    assert (await ask(bench))[0] == 200
    await eventually(lambda: bench.control.ledger.settled("b1") == 2 * USED)
