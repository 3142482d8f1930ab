"""What gateways report of replicas: kept where it changed, taken only of what is theirs to tell."""

from __future__ import annotations

import datetime as dt
import json

import msgspec
import pytest
from django.utils import timezone

from billing.models import EngineTokens
from clusters.endpoints import services
from clusters.endpoints.engine_tokens import keep_engine_tokens
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.snapshot import build_snapshot
from clusters.inventory.gateways import gateway_register
from clusters.models import CatalogModel, Cluster, Endpoint, Replica
from gateway import contract
from tenants import scope
from tenants.models import Tenant
from tests.estate import MODEL
from tests.factories import default_project, make_tenant

USED, LARGEST = 3 * 2**30, 12 * 2**30


def text(used: int = USED) -> str:
    return (
        f'trtllm_kv_cache_used_bytes{{model_name="m"}} {used}\n'
        f'trtllm_kv_cache_total_bytes{{model_name="m"}} {LARGEST}\n'
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 60000000000\n'
    )


@pytest.fixture
def engine(estate, cluster, monkeypatch):
    """Order an endpoint of a runtime; gives its ready engine in eu-de-1."""
    monkeypatch.setattr("clusters.inventory.drivers.driver_for", lambda *args, **values: cluster)
    cluster.ready_at_once = True
    tenant = make_tenant("acme", gpus=12)

    def engine(runtime: str) -> Replica:
        Cluster.objects.update(runtimes=[runtime])
        CatalogModel.objects.filter(name=MODEL).update(runtimes=[runtime])
        with scope.tenant(tenant.id):
            endpoint = services.endpoint_order(
                project=default_project(tenant),
                name=runtime,
                terms=estate.terms(residency="region:eu-de-1"),
                actor="a test",
            )
        reconcile_endpoint(endpoint.id)
        with scope.platform("a test"):
            return Replica.objects.get(endpoint=endpoint)

    return engine


@pytest.fixture
def replica(engine) -> Replica:
    return engine("trtllm-serve")


@pytest.fixture
def post(estate, client):
    """Report as a gateway; gives the status."""

    def post(reports: object, *, token: str = "") -> int:
        body = reports if isinstance(reports, str) else msgspec.json.encode(reports).decode()
        headers = {"HTTP_AUTHORIZATION": f"Bearer {token or estate.gateway_token}"}
        return client.post(contract.REPLICAS_PATH, body, "application/json", **headers).status_code

    return post


def report(replica: Replica, metrics: str) -> contract.ReplicaReports:
    return contract.ReplicaReports(
        reports=(contract.ReplicaReport(replica_id=replica.replica_id, metrics=metrics),)
    )


def memory(replica: Replica) -> dict | None:
    with scope.platform("a test"):
        return Replica.objects.get(id=replica.id).memory


def test_what_a_replica_shows_is_kept(replica, post) -> None:
    assert post(report(replica, text())) == 204

    told = memory(replica)
    assert (told["kv_used"], told["kv_max"]) == (USED, LARGEST)
    assert told["weights"] > 0
    assert told["other"] == 60_000_000_000 - told["weights"] - LARGEST


def test_noise_is_not_written_and_change_is(replica, post) -> None:
    post(report(replica, text()))

    post(report(replica, text(round(USED * 1.009))))
    assert memory(replica)["kv_used"] == USED
    post(report(replica, text(round(USED * 1.02))))
    assert memory(replica)["kv_used"] == round(USED * 1.02)


def test_a_runtime_that_shows_nothing_is_not_available(engine, post) -> None:
    replica = engine("triton-python")

    assert post(report(replica, text())) == 204

    assert memory(replica) is None


@pytest.mark.parametrize("whose", ["gone", "not-ready", "suspended", "other-region", "unknown"])
def test_only_replicas_of_its_snapshot_and_region(replica, estate, post, whose: str) -> None:
    token, reports = "", report(replica, text())
    with scope.platform("a test"):
        match whose:
            case "gone":
                Replica.objects.update(gone_at=replica.created_at)
            case "not-ready":
                Replica.objects.update(phase=Replica.Phase.STARTING)
            case "suspended":
                Tenant.objects.update(state=Tenant.State.SUSPENDED)
            case "other-region":
                Endpoint.objects.update(residency="zone:EU")
                _, token = gateway_register(name="gw-fi", region=estate.clusters["fi-a"].region)
            case "unknown":
                reports = contract.ReplicaReports(
                    reports=(contract.ReplicaReport(replica_id="another", metrics=text()),)
                )

    assert post(reports, token=token) == 204
    assert memory(replica) is None


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        ("{", "", 400),
        ('{"reports": [{"replica_id": 1, "metrics": ""}]}', "", 400),
        ('{"reports": [], "more": 1}', "", 400),
        (
            json.dumps({"reports": [{"replica_id": "r", "metrics": ""}] * (contract.MOST_REPORTS + 1)}),
            "",
            400,
        ),
        (
            json.dumps(
                {"reports": [{"replica_id": "r", "metrics": "x" * (contract.MOST_REPORTED_BYTES + 1)}]}
            ),
            "",
            400,
        ),
        ('{"reports": []}', "wrong", 401),
    ],
)
def test_what_is_refused(post, body: str, token: str, status: int) -> None:
    assert post(body, token=token) == status


def test_the_snapshot_says_where_pods_show_their_metrics(engine, estate) -> None:
    urls = {
        "triton-llmapi": "http://10.0.0.7:8000",
        "triton-engine": "http://[fd00::7]:8000",
        "trtllm-serve": "http://10.0.0.9:8000",
    }
    for runtime, url in urls.items():
        replica = engine(runtime)
        with scope.platform("a test"):
            Replica.objects.filter(id=replica.id).update(url=url)

    def shown() -> dict[str, tuple[str, str]]:
        return {
            endpoint.name: (found.protocol.value, found.metrics_url)
            for endpoint in build_snapshot(estate.gateway).endpoints
            for found in endpoint.routes[0].replicas
        }

    assert {where for _, where in shown().values()} == {""}
    Cluster.objects.update(driver=Cluster.DriverKind.KUBERNETES)
    assert shown() == {
        "triton-llmapi": ("triton-generate", "http://10.0.0.7:8002/metrics"),
        "triton-engine": ("triton-generate", "http://[fd00::7]:8002/metrics"),
        "trtllm-serve": ("openai-http", "http://10.0.0.9:8000/prometheus/metrics"),
    }


def counted() -> list[tuple[dt.date, int, int]]:
    with scope.platform("a test"):
        return [
            (row.day, row.input_tokens, row.output_tokens) for row in EngineTokens.objects.order_by("day")
        ]


def trtllm(read: int, written: int) -> str:
    return (
        f'trtllm_prompt_tokens_total{{model_name="m",engine_type="a"}} {read}\n'
        f'trtllm_generation_tokens_total{{model_name="m",engine_type="a"}} {written}.0\n'
    )


def test_what_an_engine_counts_is_summed_by_day_across_restarts(replica, post):
    assert post(report(replica, trtllm(1_000, 100))) == 204
    assert post(report(replica, trtllm(1_500, 180))) == 204
    assert post(report(replica, trtllm(1_500, 180))) == 204
    today = timezone.now().date()
    assert counted() == [(today, 1_500, 180)]
    assert post(report(replica, trtllm(1_495, 180))) == 204  # read before, heard after
    assert counted() == [(today, 1_500, 180)]
    assert post(report(replica, trtllm(40, 5))) == 204  # started anew
    assert counted() == [(today, 1_540, 185)]


def test_growth_counts_in_the_day_in_which_it_was_read(replica, estate):
    day = dt.datetime(2026, 5, 20, 23, 59, tzinfo=dt.UTC)
    for minutes, read in ((0, 100), (1, 130), (2, 150)):
        keep_engine_tokens(
            gateway=estate.gateway,
            reports=report(replica, trtllm(read, 0)).reports,
            now=day + dt.timedelta(minutes=minutes),
        )
    assert counted() == [(dt.date(2026, 5, 20), 100, 0), (dt.date(2026, 5, 21), 50, 0)]


def test_counters_that_are_not_there_or_not_true_are_not_kept(engine, post):
    served = engine("trtllm-serve")
    assert post(report(served, "trtllm_prompt_tokens_total 5\n")) == 204
    assert post(report(engine("triton-python"), trtllm(10, 5))) == 204
    assert counted() == []
