"""One budget, a real ledger, three gateway processes: exactly what the limit allows is let in, whoever is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
import httpx
import pytest

from billing.budgets.services import budget_create
from billing.models import BudgetLease, BudgetWindow
from clusters.endpoints import services
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.inventory.gateways import gateway_register
from clusters.models import Cluster, Replica
from gateway.usage_log import summarize
from tenants import scope
from tenants.keys import key_mint
from tenants.models import KeyScope
from tests.estate import make_estate
from tests.factories import default_project, make_tenant
from tests.fakes.cluster import FakeCluster

ROOT = Path(__file__).resolve().parent.parent.parent
N = 20
BODY = {"model": "chat", "prompt": "a", "max_tokens": 5}
#: One token of the prompt, as the model's tokenizer counts it, and five of the answer: all that is held is used.
USED = 1 + 5
LIMIT = N * USED
PATIENCE_S = 60.0


class Site:
    """Control plane, engine and gateways as processes. ``start`` one by its name; all end with :meth:`close`."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.tokens: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        self.key = ""
        self.gate = folder / "gate"  # the engine answers once it exists
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def gateways(self) -> list[str]:
        return list(self.tokens)

    def engine(self) -> str:
        port_file = self.folder / "engine"
        behaviour = json.dumps({"tokens": 5, "delay_s": 0.05, "gate": str(self.gate)})
        self._run("engine", "-m", "tests.fakes.triton", str(port_file), behaviour)
        return wait(lambda: port_file.exists() and port_file.read_text())

    def control_plane(self) -> None:
        self._run(
            "web", "-m", "uvicorn", "portal.asgi:application", "--host", "127.0.0.1", "--port", str(self.port),
            "--log-level", "warning", "--no-access-log", "--lifespan", "off",
            DJANGO_SETTINGS_MODULE="portal.settings.test", DATABASE_URL=self.database_url,
        )  # fmt: skip
        wait(lambda: self._answers(f"http://127.0.0.1:{self.port}/healthz"))

    def gateway(self, name: str) -> None:
        address = self.folder / "gateway" / name / "address.json"
        address.unlink(missing_ok=True)
        self._run(
            name, "-m", "gateway",
            BERTH_GATEWAY_NAME=name,
            BERTH_GATEWAY_REGION="eu-de-1",
            BERTH_GATEWAY_TOKEN=self.tokens[name],
            BERTH_CONTROL_PLANE_URL=f"http://127.0.0.1:{self.port}",
            BERTH_DATA_DIR=str(self.folder),
        )  # fmt: skip

        def ready() -> bool:
            with contextlib.suppress(OSError, ValueError):
                self.urls[name] = json.loads(address.read_text())["url"]
                return self._answers(f"{self.urls[name]}/readyz")
            return False

        wait(ready)
        # Until it has the model's tokenizer it holds the most that the prompt could have.
        wait(lambda: list((address.parent / "tokenizers").glob("*.json")))

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def settled(self) -> int:
        with scope.platform("a test"):
            return int(BudgetWindow.objects.get().settled)

    def reports(self, name: str) -> list[int]:
        """Give the number of the last report that the ledger heard of a gateway."""
        with scope.platform("a test"):
            leases = BudgetLease.objects.filter(lessee__startswith=f"{name}/")
            return list(leases.values_list("sequence", flat=True))

    def metered(self) -> tuple[int, int]:
        """Give the completed requests and all tokens that the usage logs of the gateways tell of."""
        requests = tokens = 0
        for name in self.gateways:
            sums = summarize(self.folder / "gateway" / name)
            requests += sums["by_outcome"].get("completed", {"requests": 0})["requests"]
            tokens += sums["total"]["input_tokens"] + sums["total"]["output_tokens"]
        return requests, tokens

    def _run(self, name: str, *arguments: str, **environment: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=log,
                stderr=log,
            )

    @staticmethod
    def _answers(url: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, timeout=5).status_code == 200
        return False


def wait(found):
    """Wait until ``found()`` is something, and give it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := found()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return result


@pytest.fixture
def site(committed_db, tmp_path, monkeypatch):
    """A tenant with an endpoint and a budget of N requests, and three gateways."""
    site = Site(tmp_path, committed_db)
    try:
        _furnish(site, monkeypatch)
        site.control_plane()
        for name in ("gw-1", "gw-2", "gw-3"):
            site.gateway(name)
        yield site
    finally:
        site.close()


def _furnish(site: Site, monkeypatch) -> None:
    cluster = FakeCluster(ready_at_once=True)
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *args, **values: cluster)
    estate = make_estate()
    Cluster.objects.update(runtimes=["triton-python"])
    tenant = make_tenant("acme", gpus=12)
    with scope.tenant(tenant.id):
        endpoint = services.endpoint_order(
            project=default_project(tenant),
            name="chat",
            terms=estate.terms(residency="region:eu-de-1"),
            actor="a test",
        )
        _, site.key = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=default_project(tenant))
        budget_create(
            name="Search", unit="tokens", limit=LIMIT, period="month",
            owner_kind="project", owner_id=default_project(tenant).id,
        )  # fmt: skip
    reconcile_endpoint(endpoint.id)
    url = site.engine()
    with scope.platform("a test"):
        assert Replica.objects.update(url=url) >= 1
    for name in ("gw-1", "gw-2", "gw-3"):
        _, site.tokens[name] = gateway_register(name=name, region=estate.gateway.region)


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
