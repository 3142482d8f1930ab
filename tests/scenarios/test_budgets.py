"""One budget, a real ledger, three gateway processes: exactly what the limit allows is let in, whoever is killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import aiohttp
import pytest

from billing.budgets.services import budget_create
from tenants import scope
from tests.factories import default_project
from tests.scenarios.site import PATIENCE_S, Site, furnish, wait

N = 20
BODY = {"model": "chat", "prompt": "a", "max_tokens": 5}
#: One token of the prompt, as the model's tokenizer counts it, and five of the answer: all that is held is used.
USED = 1 + 5
LIMIT = N * USED


@pytest.fixture
def site(committed_db, tmp_path, monkeypatch):
    """A tenant with an endpoint and a budget of N requests, and three gateways."""
    site = Site(tmp_path, committed_db)
    try:
        tenant = furnish(site, monkeypatch, "gw-1", "gw-2", "gw-3")
        with scope.tenant(tenant.id):
            budget_create(
                name="Search", unit="tokens", limit=LIMIT, period="month",
                owner_kind="project", owner_id=default_project(tenant).id,
            )  # fmt: skip
        site.control_plane()
        for name in ("gw-1", "gw-2", "gw-3"):
            site.gateway(name)
        yield site
    finally:
        site.close()


async def ask(http: aiohttp.ClientSession, site: Site, name: str) -> tuple[int, dict]:
    """Ask one gateway, again while it cannot reach the ledger in time; status 0 if it broke off."""
    headers = {"authorization": f"Bearer {site.key}"}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            async with http.post(f"{site.urls[name]}/v1/completions", json=BODY, headers=headers) as response:
                status, body = response.status, await response.json()
        except (aiohttp.ClientError, OSError):
            return 0, {}
        # On a machine that is too busy the ledger's answer comes too late, which is no refusal by the budget.
        late = status == 429 and body["error"]["code"] == "budget_lease_spent"
        if not late or time.monotonic() > deadline:
            return status, body


async def ask_all(http: aiohttp.ClientSession, site: Site, count: int) -> list[tuple[int, dict]]:
    names = [site.gateways[number % len(site.gateways)] for number in range(count)]
    return await asyncio.gather(*(ask(http, site, name) for name in names))


async def spend_the_rest(http: aiohttp.ClientSession, site: Site) -> int:
    done = 0
    while True:
        status, body = await ask(http, site, site.gateways[done % 3])
        if status != 200:
            assert body["error"]["code"] == "budget_exceeded", body
            return done
        done += 1


def test_exactly_n_of_ten_n_at_once_over_three_gateways(site) -> None:
    refused: list[dict] = []

    async def one(http: aiohttp.ClientSession, name: str) -> int:
        status, body = await ask(http, site, name)
        if status == 429:
            refused.append(body["error"])
        return status

    async def storm() -> Counter[int]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            names = [site.gateways[number % 3] for number in range(10 * N)]
            asking = [asyncio.create_task(one(http, name)) for name in names]
            async with asyncio.timeout(PATIENCE_S):
                while len(refused) < 9 * N:
                    await asyncio.sleep(0.02)
            site.gate.touch()
            return Counter(await asyncio.gather(*asking))

    assert asyncio.run(storm()) == {200: N, 429: 9 * N}
    for error in refused:
        assert (error["code"], error["type"]) == ("budget_exceeded", "insufficient_quota")
        assert "'Search' of project" in error["message"]
        assert f"{LIMIT} tokens each month" in error["message"]
    wait(lambda: site.settled() == N * USED)
    assert site.metered() == (N, N * USED)


def test_kill_9_in_the_middle_never_overspends_and_the_rest_can_be_spent(site) -> None:
    site.gate.touch()

    async def storm() -> list[tuple[int, dict]]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            asking = asyncio.create_task(ask_all(http, site, 10 * N))
            while site.metered()[0] < 2:
                await asyncio.sleep(0.02)
            site.kill("gw-2")
            return await asking

    async def rest() -> int:
        async with aiohttp.ClientSession() as http:
            return await spend_the_rest(http, site)

    answers = asyncio.run(storm())
    seen = Counter(status for status, _ in answers)[200]
    requests, tokens = site.metered()
    assert seen <= requests
    assert tokens <= LIMIT
    assert site.settled() <= LIMIT

    before = site.reports("gw-2")
    site.gateway("gw-2")
    # Until it is heard again, all that it was lent counts as spent.
    wait(lambda: site.reports("gw-2") != before)
    seen += asyncio.run(rest())

    requests, tokens = site.metered()
    assert seen <= requests
    assert LIMIT - USED < tokens <= LIMIT
    wait(lambda: site.settled() == tokens)
