"""``python -m gateway`` between an engine and a control plane that only keeps what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx
import msgspec
import psutil

from bench.tools.load import ROOT, Report
from embedded.datadir import open_data_dir
from embedded.redis import Redis
from gateway.contract import (
    Budget,
    BudgetPeriod,
    BudgetUnit,
    EngineProtocol,
    Owner,
    Project,
    RateLimits,
    Route,
    Snapshot,
    Tenant,
    TokenPrices,
)
from tests.fakes.control_plane import TOKEN, FakeControlPlane
from tests.gateway import world

START_S: Final = 30.0
#: As many requests as the comparison sends at once: it is the gateway that is measured, not the engine's limit.
CONCURRENCY: Final = 1024
QUEUE_S: Final = 30.0
CONTEXT_TOKENS: Final = 1_000_000
RATES: Final = RateLimits(requests_per_minute=10**9, tokens_per_minute=10**12)
PRICES: Final = TokenPrices(currency="EUR", input="0.2", output="0.6", cached="0.05")
BUDGETS: Final = tuple(
    Budget(
        budget_id=f"budget-{owner}-{unit}", tenant_id="t1", owner=owner, owner_id=owner_id, name=f"{owner} {unit}",
        unit=unit, limit="1000000000", period=BudgetPeriod.MONTH, time_zone="Europe/Berlin",
        currency="EUR" if unit is BudgetUnit.MONEY else "",
    )
    for owner, owner_id in ((Owner.KEY, "k1"), (Owner.PROJECT, "p1"), (Owner.TENANT, "t1"))
    for unit in (BudgetUnit.MONEY, BudgetUnit.TOKENS)
)  # fmt: skip
NAME: Final = "gw-1"
HEADERS: Final = {"Authorization": f"Bearer {world.KEY}"}


class Gateway:
    """A running gateway. ``answered`` sums up what load got through it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, control: FakeControlPlane) -> None:
        self.url = url
        self.answered = 0
        self._process = process
        self._control = control
        self._seen = psutil.Process(process.pid)

    def count(self, report: Report) -> Report:
        """Note what a report says was answered."""
        self.answered += report.all_answered
        return report

    def cpu_s(self) -> float:
        """Processor seconds spent so far."""
        times = self._seen.cpu_times()
        return times.user + times.system

    def resident_mib(self) -> float:
        """Memory in use now."""
        return self._seen.memory_info().rss / 2**20

    async def stop(self) -> int:
        """Stop as an operator does, and give how many completed requests were shipped as usage."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 30)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        return self._control.requests().get("completed", 0)


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    engine_url: str,
    models: Mapping[str, str],
    *,
    protocol: EngineProtocol = EngineProtocol.TRITON_GENERATE,
    concurrency: int = CONCURRENCY,
    queue_s: float = QUEUE_S,
    limited: bool = True,
    module: str = "gateway",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Gateway]:
    """Start a gateway whose endpoints are the keys of ``models``, each for an engine's model of that value.

    Everything is on: rate limits of key, project, tenant and endpoint, shared through a Redis of its own, and budgets
    of money and tokens, all too large to refuse anything; none of it without ``limited``. Its engine works on
    ``concurrency`` requests at once; ``module`` is run in the place of ``gateway``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    estate = _estate(engine_url, models, protocol=protocol, concurrency=concurrency, queue_s=queue_s)
    if not limited:
        estate = _unlimited(estate)
    control = await FakeControlPlane(estate).start()
    control.ledger.budgets |= {budget.budget_id: budget for budget in BUDGETS}
    redis = Redis(open_data_dir(folder / "redis"))
    redis.start()
    settings = {
        "PATH": os.environ["PATH"],
        "BERTH_GATEWAY_NAME": NAME,
        "BERTH_GATEWAY_REGION": "eu-de-1",
        "BERTH_GATEWAY_TOKEN": TOKEN,
        "BERTH_GATEWAY_LOG_LEVEL": "WARNING",
        "BERTH_CONTROL_PLANE_URL": control.url,
        "BERTH_DATA_DIR": str(folder),
        "BERTH_KEY_PEPPERS": f"7:{world.PEPPER.hex()}",
        "BERTH_GATEWAY_REDIS_URL": redis.url(),
        **environment,
    }
    log = (folder / "gateway.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env=settings, stdout=log, stderr=log
    )
    gateway = None
    try:
        url = await _ready(process, folder)
        gateway = Gateway(process, url, control)
        yield gateway
    finally:
        if gateway is not None:
            await gateway.stop()
        elif process.returncode is None:
            process.kill()
            await process.wait()
        await control.stop()
        redis.stop()
        log.close()


def _estate(
    engine_url: str,
    models: Mapping[str, str],
    *,
    protocol: EngineProtocol,
    concurrency: int,
    queue_s: float,
) -> Snapshot:
    estate = world.World()
    replicas = {
        name: msgspec.structs.replace(
            world.replica(engine_url, replica_id=f"replica-{name}"),
            engine_model=model,
            protocol=protocol,
            concurrency=concurrency,
        )
        for name, model in models.items()
    }
    return Snapshot.build(
        gateway=NAME,
        region="eu-de-1",
        zones=("EU",),
        keys=tuple(msgspec.structs.replace(key, rates=RATES) for key in estate.keys),
        tenants=(Tenant(tenant_id="t1", name="one", rates=RATES),),
        projects=(Project(project_id="p1", tenant_id="t1", name="first", rates=RATES),),
        budgets=BUDGETS,
        classes=estate.classes(queue_s=queue_s),
        endpoints=tuple(
            estate.endpoint(
                engine_url,
                endpoint_id=f"endpoint-{name}",
                name=name,
                context_tokens=CONTEXT_TOKENS,
                rates=RATES,
                prices=PRICES,
                routes=(Route(revision_id=f"revision-{name}", weight=100, replicas=(replica,)),),
            )
            for name, replica in replicas.items()
        ),
    )


def _unlimited(estate: Snapshot) -> Snapshot:
    """Take rates and budgets away."""
    free = RateLimits()
    content = {
        part: tuple(msgspec.structs.replace(each, rates=free) for each in getattr(estate, part))
        for part in ("keys", "tenants", "projects", "endpoints")
    }
    return msgspec.structs.replace(estate, budgets=(), **content)


async def _ready(process: asyncio.subprocess.Process, folder: Path) -> str:
    address = folder / "gateway" / NAME / "address.json"
    deadline = time.monotonic() + START_S
    async with httpx.AsyncClient() as client:
        while time.monotonic() < deadline and process.returncode is None:
            with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
                url = str(json.loads(address.read_text())["url"])
                if (await client.get(f"{url}/readyz")).status_code == 200:
                    return url
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the gateway did not become ready:\n{(folder / 'gateway.log').read_text()[-2000:]}")
