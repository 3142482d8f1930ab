"""Budgets at the gateway's doors: held, settled, refused, told, and never refused for nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from typing import Any

import msgspec
import openai
import pytest

from gateway.contract import Budget, BudgetPeriod, BudgetUnit, Owner, Project, Tenant, TokenPrices
from gateway.metering.spool import read_spool
from tests.fakes.triton import Behaviour
from tests.gateway.conftest import Bench, eventually
from tests.gateway.world import KEY, OTHER_PROJECT_KEY, key

CHAT = {"model": "docs", "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 5}
PRICES = TokenPrices(currency="EUR", input="1.0000000001", output="3", cached="0.5")
#: What the prompt of CHAT may have at most: its bytes and three, for the world has no tokenizer.
PROMPT_TOKENS = len("<user> hello there\n<assistant>") + 3
HOLD = PROMPT_TOKENS + 5
USED = 4 + 5  # tokens that the fake engine counts


def budget(limit: object, **more: object) -> Budget:
    made = Budget(
        budget_id="b1",
        tenant_id="t1",
        owner=Owner.PROJECT,
        owner_id="p1",
        name="Search",
        unit=BudgetUnit.TOKENS,
        limit=str(limit),
        period=BudgetPeriod.MONTH,
        time_zone="Europe/Berlin",
    )
    return msgspec.structs.replace(made, **more)


async def give(bench: Bench, *budgets: Budget, **endpoint: Any) -> None:
    """Publish budgets, and wait until the gateway has its first slices."""
    bench.control.ledger.budgets = {each.budget_id: each for each in budgets}
    bench.world.more = {
        "budgets": budgets,
        "projects": (Project(project_id="p1", tenant_id="t1", name="search team"),),
        "tenants": (Tenant(tenant_id="t1", name="Acme"),),
    }
    bench.publish(**{"prices": PRICES, **endpoint})
    await bench.settled()
    told = {each.budget_id for each in budgets}
    await eventually(
        lambda: told <= {line.budget_id for report in bench.control.ledger.reports for line in report.lines}
    )


async def ask(bench: Bench, **changes: Any) -> tuple[int, dict[str, Any], Any]:
    async with bench.post("/v1/chat/completions", {**CHAT, **changes}) as response:
        return response.status, await response.json(), response.headers


async def test_what_is_held_is_settled_to_what_was_used(bench: Bench) -> None:
    await give(bench, budget(10_000))

    status, body, _ = await ask(bench)

    assert status == 200
    assert body["usage"]["total_tokens"] == USED
    ledger = bench.control.ledger
    await eventually(lambda: ledger.settled("b1") == USED and ledger.held("b1") == 0)


async def test_exactly_n_of_ten_n_at_once(bench: Bench) -> None:
    answering = asyncio.Event()
    bench.triton.behaviour = Behaviour(tokens=5, until=answering)
    await give(bench, budget(HOLD * 8))

    asking = [asyncio.create_task(ask(bench)) for _ in range(80)]
    await eventually(lambda: sum(each.done() for each in asking) == 72)
    answering.set()
    answers = await asyncio.gather(*asking)

    assert sorted(status for status, _, _ in answers) == [200] * 8 + [429] * 72
    assert len(bench.triton.calls) == 8
    await eventually(lambda: bench.control.ledger.settled("b1") == 8 * USED)
    # What was held and not used is free again.
    assert (await ask(bench))[0] == 200


async def test_a_refusal_names_limit_owner_and_reset_and_arrives_once(bench: Bench) -> None:
    await give(bench, budget("10", unit=BudgetUnit.MONEY, currency="EUR"))
    client = openai.AsyncOpenAI(api_key=KEY, base_url=f"{bench.url}/v1", max_retries=3)
    bench.clients.append(client)
    prices = TokenPrices(currency="EUR", input="1000000", output="3000000", cached="500000")
    bench.publish(prices=prices)
    await bench.settled()

    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(**CHAT)

    error = caught.value
    assert (error.code, error.type) == ("budget_exceeded", "insufficient_quota")
    for said in ("'Search'", "project search team", "10 EUR each month", "0 EUR is spent"):
        assert said in error.message
    assert f"may need {PROMPT_TOKENS * 1 + 5 * 3} EUR" in error.message
    reset = dt.datetime.fromisoformat(error.message.split("resets at ")[1].split(".")[0])
    assert (reset.day, reset.hour, reset.minute) == (1, 0, 0)
    assert reset.utcoffset() in (dt.timedelta(hours=1), dt.timedelta(hours=2))
    assert error.response.headers["x-should-retry"] == "false"
    seconds = reset.timestamp() - time.time()
    assert abs(int(error.response.headers["retry-after"]) - seconds) < 30
    await eventually(lambda: bench.control.requests() == {"refused": 1})


@pytest.mark.parametrize(("context", "limit"), [(640, 32), (PROMPT_TOKENS + 20, 20), (PROMPT_TOKENS, 16)])
async def test_without_max_tokens_the_output_cap_is_held_and_asked_for(
    bench: Bench, context: int, limit: int
) -> None:
    most = PROMPT_TOKENS + limit
    await give(bench, budget(most), context_tokens=context)
    status, _, _ = await ask(bench, max_tokens=None)
    assert status == 200
    assert bench.triton.calls[0].payload["max_tokens"] == limit

    status, body, _ = await ask(bench, max_tokens=None)

    assert status == 429
    assert f"may need {most} tokens" in body["error"]["message"]


@pytest.mark.parametrize(
    ("owner", "owner_id", "pays"),
    [
        (Owner.KEY, "k1", True),
        (Owner.PROJECT, "p1", True),
        (Owner.TENANT, "t1", True),
        (Owner.KEY, "k2", False),
    ],
)
async def test_keys_projects_and_tenants_pay(bench: Bench, owner: Owner, owner_id: str, pays: bool) -> None:
    await give(bench, budget(1, owner=owner, owner_id=owner_id))

    assert (await ask(bench))[0] == (429 if pays else 200)


async def test_the_narrowest_of_several_budgets_refuses_and_holds_nothing_of_the_others(bench: Bench) -> None:
    await give(
        bench,
        budget(HOLD * 4, budget_id="wide", owner=Owner.TENANT, owner_id="t1", name="Wide"),
        budget(HOLD - 1, budget_id="narrow", owner=Owner.KEY, owner_id="k1", name="Narrow"),
    )

    status, body, _ = await ask(bench)

    assert status == 429
    assert "'Narrow' of key key k1" in body["error"]["message"]
    ledger = bench.control.ledger
    assert ledger.held("wide") == ledger.settled("wide") == 0
    async with bench.post("/v1/chat/completions", CHAT, key=OTHER_PROJECT_KEY) as response:
        assert response.status == 404  # another project's key does not know the endpoint


async def test_money_is_exact_and_cached_input_has_its_price(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=5, cached=3)
    await give(bench, budget("1", unit=BudgetUnit.MONEY, currency="EUR"))

    assert (await ask(bench))[0] == 200

    # 1 fresh input token, 3 cached, 5 output.
    expected = "0.0000175000000001"
    await eventually(lambda: f"{bench.control.ledger.settled('b1').normalize():f}" == expected)


async def test_a_request_of_a_lower_class_is_held_and_settled_at_the_prices_of_that(bench: Bench) -> None:
    bench.world.keys = (key(KEY, "k1", slo_class="batch"),)
    half = TokenPrices(currency="EUR", input="0.5", output="1.5", cached="0.25")
    await give(bench, budget("1", unit=BudgetUnit.MONEY, currency="EUR"), lower_prices={"batch": half})

    assert (await ask(bench))[0] == 200

    # 4 input tokens, 5 output.
    await eventually(lambda: f"{bench.control.ledger.settled('b1').normalize():f}" == "0.0000095")


@pytest.mark.parametrize(
    ("prices", "code"),
    [
        (None, "budget_not_priced"),
        (TokenPrices(currency="EUR", input="1", output="0.00000000001", cached="1"), "budget_not_priced"),
        (TokenPrices(currency="USD", input="1", output="1", cached="1"), "budget_currency_differs"),
    ],
)
async def test_a_budget_in_money_fails_closed_where_nobody_knows_the_cost(
    bench: Bench, prices: TokenPrices | None, code: str
) -> None:
    await give(bench, budget("1", unit=BudgetUnit.MONEY, currency="EUR"), prices=prices)

    status, body, headers = await ask(bench)

    assert (status, body["error"]["code"], headers["x-should-retry"]) == (503, code, "false")
    assert bench.triton.calls == []


async def test_a_failed_request_gives_back_its_hold(bench: Bench) -> None:
    await give(bench, budget(HOLD))
    bench.triton.next_behaviours = [Behaviour(status=500, error="broken")] * 2
    assert (await ask(bench))[0] == 502

    assert (await ask(bench))[0] == 200


async def test_a_cancelled_stream_pays_for_what_came(bench: Bench) -> None:
    bench.triton.behaviour = Behaviour(tokens=5, hang_after=2)
    await give(bench, budget(10_000))

    async with bench.post("/v1/chat/completions", {**CHAT, "stream": True}) as response:
        await response.content.readany()
        await eventually(lambda: bench.triton.calls[0].sent == 2)
    await eventually(lambda: bench.control.ledger.settled("b1") == 4 + 2)
    assert bench.control.ledger.held("b1") == 0


async def test_alerts_are_told_with_the_answer(bench: Bench) -> None:
    await give(bench, budget(100, name="Größe", alert_percents=(50, 80)))
    headers: Any = {}
    for spent in range(5):
        status, _, headers = await ask(bench)
        assert status == 200
        assert "x-berth-budget-alert" not in headers, spent
    for _ in range(2):
        _, _, headers = await ask(bench)

    assert headers["x-berth-budget-alert"] == "Gr??e 63%"


async def test_without_the_control_plane_a_lease_is_spent_to_its_end(bench: Bench) -> None:
    await give(bench, budget(100_000))
    await eventually(lambda: bench.control.ledger.granted("b1") >= 100_000 // 256)
    await bench.control.stop()

    statuses = []
    async with asyncio.timeout(60):
        while not statuses or statuses[-1][0] == 200:
            statuses.append(await ask(bench))

    status, body, headers = statuses[-1]
    assert 1 < len(statuses) < 100
    assert (status, body["error"]["code"]) == (429, "budget_lease_spent")
    assert "control plane does not answer" in body["error"]["message"]
    assert "x-should-retry" not in headers
    await bench.control.start()
    async with asyncio.timeout(30):
        while (await ask(bench))[0] != 200:
            await asyncio.sleep(0.05)


async def test_lost_answers_cost_nothing(bench: Bench) -> None:
    bench.control.lose_leases = 3
    await give(bench, budget(HOLD * 2))
    bench.control.lose_leases = 2

    assert (await ask(bench))[0] == 200
    await eventually(lambda: bench.control.ledger.settled("b1") == USED)
    bench.control.lose_leases = 2
    await eventually(lambda: not bench.control.lose_leases)
    async with asyncio.timeout(20):
        while (await ask(bench))[0] != 200:
            await asyncio.sleep(0.1)


async def test_a_raised_limit_lets_in_again_and_a_lowered_one_refuses(bench: Bench) -> None:
    await give(bench, budget(HOLD - 1))
    assert (await ask(bench))[0] == 429
    for limit, expected in ((HOLD * 3, 200), (HOLD, 429)):
        bench.control.ledger.limit(budget(limit), now=dt.datetime.now(dt.UTC))
        bench.world.more["budgets"] = (budget(limit),)
        bench.publish(prices=PRICES)
        await bench.settled()
        assert (await ask(bench))[0] == expected


async def test_what_was_settled_survives_a_restart_and_holds_do_not(bench: Bench) -> None:
    bench.triton.next_behaviours = [Behaviour(tokens=5), Behaviour(tokens=5, hang_after=1)]
    await give(bench, budget(HOLD + USED))
    assert (await ask(bench))[0] == 200
    hanging = asyncio.create_task(ask(bench))
    await eventually(lambda: len(bench.triton.calls) == 2)
    await bench.stop()
    await asyncio.gather(hanging, return_exceptions=True)
    settled = read_spool(bench.folder)
    last = settled[1][-1] if settled[1] else settled[0]
    assert sum(map(int, last.charges.values())) == USED + 4 + 1
    assert bench.control.ledger.held("b1") == 0
    assert bench.control.ledger.granted("b1") == USED + 5

    await bench.ready()
    assert (await ask(bench))[0] == 429
    assert bench.control.ledger.settled("b1") == USED + 5


async def test_a_request_of_no_budget_asks_nobody(bench: Bench) -> None:
    await eventually(lambda: len(bench.control.ledger.reports) > 0)
    assert (await ask(bench))[0] == 200

    assert all(not report.lines for report in bench.control.ledger.reports)
    (record,) = [
        json.loads(line)
        for path in (bench.folder / "log").iterdir()
        for line in path.read_text().splitlines()
    ]
    assert "charges" not in record
