"""Several engines behind one gateway, each a replica of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from gateway.contract import Endpoint, Replica, Route
from tests.fakes.triton import FakeTriton
from tests.gateway.conftest import Bench
from tests.gateway.world import KEY, replica


class Farm:
    """Engines by the id of their replica."""

    def __init__(self, bench: Bench, engines: dict[str, FakeTriton]) -> None:
        self.bench = bench
        self.engines = engines

    def replica(self, replica_id: str, **changes: Any) -> Replica:
        return replica(self.engines[replica_id].url, replica_id=replica_id, **changes)

    def route(self, revision_id: str, *replica_ids: str, weight: int = 100) -> Route:
        members = tuple(map(self.replica, replica_ids))
        return Route(revision_id=revision_id, weight=weight, replicas=members)

    def endpoint(self, endpoint_id: str, *replicas: Replica, **changes: Any) -> Endpoint:
        """Make another endpoint of the same project, named as its id is."""
        routes = (Route(revision_id=f"rev-{endpoint_id}", weight=100, replicas=replicas),) if replicas else ()
        changes = {"name": endpoint_id, "routes": routes, **changes}
        return self.bench.world.endpoint("", endpoint_id=endpoint_id, **changes)

    async def publish(self, **changes: Any) -> None:
        """Publish changes to the endpoint of the world and wait for the gateway to have them."""
        self.bench.publish(**changes)
        await self.bench.settled()

    def calls(self) -> dict[str, int]:
        """Count what each engine was asked."""
        return {name: len(engine.calls) for name, engine in self.engines.items()}

    async def ask(
        self, prompt: str, *, model: str = "docs", headers: dict[str, str] | None = None, **body: Any
    ) -> Answer:
        """Complete ``prompt``."""
        document = {"model": model, "prompt": prompt, **body}
        sent = {"authorization": f"Bearer {KEY}", **(headers or {})}
        url = f"{self.bench.url}/v1/completions"
        async with self.bench.http.post(url, json=document, headers=sent) as response:
            return Answer(response.status, await response.json(), dict(response.headers))


class Answer:
    """What came back."""

    def __init__(self, status: int, document: dict[str, Any], headers: dict[str, str]) -> None:
        self.status = status
        self.document = document
        self.headers = {name.lower(): value for name, value in headers.items()}

    @property
    def code(self) -> str:
        """The code of its error, empty for none."""
        return str(self.document.get("error", {}).get("code", ""))

    @property
    def message(self) -> str:
        """The message of its error."""
        return str(self.document["error"]["message"])


@contextlib.asynccontextmanager
async def farm(bench: Bench, *replica_ids: str) -> AsyncIterator[Farm]:
    """Run an engine for each replica."""
    async with contextlib.AsyncExitStack() as stack:
        yield Farm(bench, {name: await stack.enter_async_context(FakeTriton()) for name in replica_ids})
