"""What each role of the platform may do through the API, and what an operator of some clusters reaches."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from billing.buckets import Width
from billing.models import ClusterDay
from clusters.endpoints import services
from clusters.models import Cluster, Endpoint, OperatorCluster, Saving
from tenants import scope
from tenants.models import PlatformRole, User
from tests.api.contract import assert_problem
from tests.factories import default_project, make_user

API = "/api/v1"
#: One call of each group, with who may make it. Bodies are empty: who may is told what is missing.
CALLS = {
    ("get", "clusters"): {"operator", "narrowed", "auditor"},
    ("get", "platform/utilization"): {"operator", "narrowed", "auditor"},
    ("get", "platform/fragmentation"): {"operator", "narrowed", "auditor"},
    ("get", "platform/savings"): {"operator", "narrowed", "auditor"},
    ("get", "engine-images"): {"operator", "narrowed", "auditor"},
    ("get", "advice-runs"): {"operator", "auditor"},
    ("get", "tenants/acme"): {"operator", "finance", "auditor"},
    ("get", "list-prices"): {"operator", "finance", "auditor"},
    ("get", "asset-rates"): {"operator", "finance", "auditor"},
    ("get", "tenant-statements"): {"operator", "finance", "auditor"},
    ("get", "tenant-budgets"): {"operator", "finance", "auditor"},
    ("get", "platform/recovery"): {"operator", "finance", "auditor"},
    ("get", "usage-gaps"): {"operator", "finance", "auditor"},
    ("get", "platform/people"): {"auditor"},
    ("post", "clusters"): {"operator"},
    ("post", "clusters/de-a:cordon"): {"operator", "narrowed"},
    ("patch", "advice-policy"): {"operator"},
    ("put", "engine-images/loader"): {"operator"},
    ("patch", "tenants/acme"): {"operator"},
    ("post", "list-prices"): {"finance"},
    ("post", "asset-rates"): {"finance"},
    ("post", "tenants/acme/credits"): {"finance"},
    ("post", "platform/people"): set(),
}


def client_of(user: User) -> APIClient:
    client = APIClient()
    client.force_login(user)
    return client


@pytest.fixture
def narrowed(estate) -> APIClient:
    """The operator of ``de-a`` alone."""
    user = make_user("nora@example.org", platform_role=PlatformRole.OPERATOR)
    OperatorCluster.objects.create(user=user, cluster=estate.clusters["de-a"])
    return client_of(user)


@pytest.fixture
def on(estate, tenant):
    """Have an endpoint placed on a cluster, by its name."""

    def order(cluster: str) -> Endpoint:
        region = Cluster.objects.get(name=cluster).region.code
        terms = estate.terms(residency=f"region:{region}")
        with scope.tenant(tenant.id):
            return services.endpoint_order(
                project=default_project(tenant), name=f"on-{cluster}", terms=terms, actor="ann@example.org"
            )

    return order


@pytest.mark.parametrize("kind", ["operator", "narrowed", "finance", "auditor"])
def test_each_role_may_what_it_is_for_and_is_told_why_not_more(kind, tenant, estate, request):
    if kind == "narrowed":
        client = request.getfixturevalue("narrowed")
    else:
        client = client_of(make_user(f"{kind}@berth.example", platform_role=kind))
    for (method, path), who in CALLS.items():
        answer = getattr(client, method)(f"{API}/{path}", {} if method != "get" else None, format="json")
        if kind in who:
            assert answer.status_code in (200, 422), (method, path, answer.content)
        else:
            problem = assert_problem(answer, 403, "forbidden")
            assert "may not" in problem["detail"], (method, path)


def test_a_member_of_a_tenant_is_told_of_nothing(owner, estate):
    for method, path in CALLS:
        assert_problem(getattr(owner, method)(f"{API}/{path}"), 404, "not-found")


def test_lists_hold_what_is_in_reach(narrowed, operator, estate):
    assert [each["name"] for each in narrowed.get(f"{API}/clusters").json()["results"]] == ["de-a"]
    assert len(operator.get(f"{API}/clusters").json()["results"]) == 3
    pools = narrowed.get(f"{API}/platform/fragmentation").json()["pools"]
    assert {each["cluster"] for each in pools} == {"de-a"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "clusters/{name}"),
        ("get", "clusters/{name}/nodes"),
        ("patch", "clusters/{name}"),
        ("delete", "clusters/{name}"),
        ("post", "clusters/{name}:cordon"),
        ("post", "clusters/{name}:uncordon"),
        ("post", "clusters/{name}:check"),
        ("post", "clusters/{name}:declare-lost"),
        ("post", "clusters/{name}/credentials"),
    ],
)
def test_another_cluster_is_as_if_it_were_not_there(narrowed, estate, method, path):
    bodies = {
        "clusters/{name}:cordon": {"reason": "mine"},
        "clusters/{name}:declare-lost": {"confirm": "us-a"},
        "clusters/{name}/credentials": {"credentials": {"server": "https://k8s.example.org", "token": "a"}},
    }
    body = bodies.get(path, {})
    there = getattr(narrowed, method)(f"{API}/{path.format(name='us-a')}", body, format="json")
    body = body | ({"confirm": "nowhere"} if "confirm" in body else {})
    nowhere = getattr(narrowed, method)(f"{API}/{path.format(name='nowhere')}", body, format="json")
    assert there.status_code == nowhere.status_code == 404
    assert there.content == nowhere.content
    us = Cluster.objects.get(name="us-a")
    assert (us.state, us.cordon_reason, us.removed_at) == ("active", "", None)


def test_an_endpoint_elsewhere_is_not_there_to_be_moved(narrowed, on):
    endpoint = on("us-a")
    answer = narrowed.post(f"{API}/endpoints/{endpoint.id}:move", {"cluster": "de-a"}, format="json")
    assert_problem(answer, 404, "not-found")


def test_an_endpoint_is_moved_to_no_cluster_that_is_out_of_reach(narrowed, operator, on):
    endpoint = on("de-a")
    path = f"{API}/endpoints/{endpoint.id}:move"
    told = [
        assert_problem(narrowed.post(path, {"cluster": name}, format="json"), 422, "invalid")
        for name in ("us-a", "nowhere")
    ]
    assert told[0]["errors"]["cluster"][0].replace("us-a", "nowhere") == told[1]["errors"]["cluster"][0]
    problem = assert_problem(narrowed.post(path, {"cluster": None}, format="json"), 422, "invalid")
    assert "de-a" in problem["errors"]["cluster"][0]
    assert narrowed.post(path, {"cluster": "de-a"}, format="json").status_code == 202
    assert operator.post(path, {"cluster": None}, format="json").status_code == 202


def test_sharing_with_every_tenant_is_not_for_an_operator_of_some_clusters(narrowed, on):
    answer = narrowed.post(f"{API}/endpoints/{on('de-a').id}:share", {"shared": True}, format="json")
    assert "de-a" in assert_problem(answer, 403, "forbidden")["detail"]


def test_reports_tell_of_the_clusters_in_reach_alone(narrowed, operator, estate):
    day = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=1)
    with scope.platform("two clusters have idled"):
        for name in ("de-a", "us-a"):
            ClusterDay.objects.create(
                bucket=day, cluster=name, pool="l4", gpu_type="l4", currency="EUR", seen=7200, idle=7200
            )
    asked = {"start": day.isoformat(), "bucket_width": Width.DAY.value, "group_by": "cluster"}

    def groups(client, **more) -> list[str]:
        answer = client.get(f"{API}/platform/utilization", {**asked, **more})
        assert answer.status_code == 200, answer.content
        return sorted(each["cluster"] for each in answer.json()["groups"])

    assert groups(operator) == ["de-a", "us-a"]
    assert groups(narrowed) == ["de-a"]
    assert groups(narrowed, cluster="us-a") == groups(narrowed, cluster="nowhere") == []


def test_a_tenant_with_nothing_in_reach_reads_like_one_that_is_not_there(narrowed, on):
    on("us-a")
    asked = f"{API}/platform/utilization?tenant="
    there = assert_problem(narrowed.get(f"{asked}acme"), 422, "invalid")
    nowhere = assert_problem(narrowed.get(f"{asked}nobody"), 422, "invalid")
    assert there["detail"].replace("acme", "nobody") == nowhere["detail"]


def test_savings_of_endpoints_elsewhere_are_neither_listed_nor_put_off(narrowed, operator, on):
    with scope.platform("two findings"):
        savings = [
            Saving.objects.create(
                tenant_id=endpoint.tenant_id, endpoint=endpoint, kind=Saving.Kind.IDLE, what="idle",
                amount=10, currency="EUR", gpu_hours=1, computed_at=timezone.now(),
            )
            for endpoint in (on("de-a"), on("us-a"))
        ]  # fmt: skip
    assert len(operator.get(f"{API}/platform/savings").json()["savings"]) == 2
    found = narrowed.get(f"{API}/platform/savings").json()["savings"]
    assert [each["id"] for each in found] == [str(savings[0].id)]
    body = {"reason": "kept warm", "until": (timezone.now() + dt.timedelta(days=3)).isoformat()}
    answer = narrowed.post(f"{API}/platform/savings/{savings[1].id}:dismiss", body, format="json")
    assert_problem(answer, 404, "not-found")


def test_a_role_that_is_taken_away_is_gone_at_the_next_request(db):
    user = make_user("olga@example.org", platform_role=PlatformRole.OPERATOR)
    client = client_of(user)
    assert client.get(f"{API}/clusters").status_code == 200
    User.objects.filter(id=user.id).update(platform_role=PlatformRole.FINANCE)
    assert client.get(f"{API}/clusters").status_code == 403
    User.objects.filter(id=user.id).update(platform_role=PlatformRole.NONE)
    assert (
        client.get(f"{API}/clusters").status_code == 400
    )  # no tenant is named, and no door of the platform is open
    User.objects.filter(id=user.id).update(platform_role=PlatformRole.OPERATOR, is_active=False)
    assert client.get(f"{API}/clusters").status_code == 401


def test_a_cluster_that_goes_does_not_widen_its_operator(narrowed, operator, estate):
    cluster = estate.clusters["de-a"]
    assert operator.delete(f"{API}/clusters/de-a").status_code == 204
    cluster.refresh_from_db()
    assert cluster.removed_at
    assert narrowed.get(f"{API}/clusters").json()["results"] == []
