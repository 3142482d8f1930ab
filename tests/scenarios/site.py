"""A control plane, an engine and gateways as processes, on a database of their own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from billing.models import BudgetLease, BudgetWindow
from clusters.endpoints import services
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.inventory.gateways import gateway_register
from clusters.models import Cluster, Replica
from gateway.usage_log import summarize
from tenants import scope
from tenants.keys import key_mint
from tenants.models import KeyScope, Tenant
from tests.estate import make_estate
from tests.factories import default_project, make_tenant
from tests.fakes.cluster import FakeCluster

ROOT = Path(__file__).resolve().parent.parent.parent
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


def furnish(site: Site, monkeypatch, *gateways: str) -> Tenant:
    """Make a tenant with the endpoint ``chat`` and an inference key, and register gateways; start the engine."""
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
    reconcile_endpoint(endpoint.id)
    url = site.engine()
    with scope.platform("a test"):
        assert Replica.objects.update(url=url) >= 1
    for name in gateways:
        _, site.tokens[name] = gateway_register(name=name, region=estate.gateway.region)
    return tenant
