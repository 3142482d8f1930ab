"""What gateways are given: classes, owners, limits, draining replicas, routes, other regions; and when it changes."""

from __future__ import annotations

import uuid
from decimal import Decimal

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.budgets.services import budget_create
from clusters.endpoints.limits import endpoint_limits_set, endpoint_share
from clusters.endpoints.routes import route_change, route_create, route_delete
from clusters.endpoints.services import endpoint_pause
from clusters.endpoints.snapshot import build_snapshot
from clusters.inventory.gateways import gateway_register, gateway_remove
from clusters.inventory.slo_classes import slo_class_change
from clusters.models import CatalogModel, Cluster, Gateway, Region, Replica, Revision, SloClass
from gateway import contract
from gateway.contract import RouteRule, RouteTarget
from gateway.directory import read_snapshot
from tenants import scope
from tenants.key_sweeps import key_leaked, keys_revoke
from tenants.keys import key_mint, key_revoke, key_rotate
from tenants.limits import key_change, project_limits_set, tenant_choices_set, tenant_limits_set
from tenants.models import KeyScope
from tenants.reach import InferenceVerb
from tenants.service_accounts import (
    service_account_change,
    service_account_create,
    service_account_remove,
)
from tenants.services import project_change, project_create
from tests.clusters.endpoints.conftest import fresh
from tests.factories import default_project, make_tenant


@pytest.fixture
def snapshot(estate):
    """Build the snapshot of the gateway in Germany, or of another."""

    def snapshot(gateway: Gateway = estate.gateway) -> contract.Snapshot:
        return build_snapshot(Gateway.objects.select_related("region").get(id=gateway.id))

    return snapshot


@pytest.fixture
def announced():
    """Run something and give how often gateways were told to look."""

    def announced(change) -> int:
        with CaptureQueriesContext(connection) as queries:
            change()
        return sum("pg_notify" in query["sql"] for query in queries)

    return announced


def by_name(things, name: str):
    return next(each for each in things if each.name == name)


def to(*endpoints, **conditions) -> RouteRule:
    targets = tuple(RouteTarget(endpoint_id=str(each.id)) for each in endpoints)
    return RouteRule(targets=targets, **conditions)


def test_classes_say_how_requests_are_treated(snapshot):
    batch = SloClass.objects.get(name="batch")
    slo_class_change(slo_class=batch, on_overload="shorten", degraded_context_tokens=512, context_tokens=4096)
    found = by_name(snapshot().classes, "batch")
    assert (found.queue_s, found.floor, found.on_overload) == (60, 0.05, contract.OnOverload.SHORTEN)
    assert (found.context_tokens, found.degraded_context_tokens) == (4096, 512)
    assert (found.timeouts.backoff_s, found.timeouts.backoff_most_s) == (0.5, 10)
    interactive = by_name(snapshot().classes, "interactive")
    assert (interactive.queue_s, interactive.floor) == (1, 0)
    assert interactive.on_overload == contract.OnOverload.FALLBACK
    assert sum(each.floor for each in snapshot().classes) < 1


def test_owners_come_with_their_limits_and_choices(snapshot, tenant):
    project = default_project(tenant)
    rates = {"requests_per_minute": 60, "tokens_per_minute": 9_000}
    with scope.tenant(tenant.id):
        limits = {**rates, "slo_class": "batch", "context_tokens": 512}
        key, _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project, limits=limits)
        project_limits_set(project=project, limits={"tokens_per_minute": 5})
        tenant_choices_set(tenant=tenant, choices={"refuse_after_s": 3600, "files_days": 3})
        tenant_limits_set(tenant=tenant, limits={"requests_per_minute": 7}, share=2)
    found = snapshot()
    assert found.keys[0].rates == contract.RateLimits(**rates)
    assert (found.keys[0].key_id, found.keys[0].slo_class, found.keys[0].context_tokens) == (
        str(key.id), "batch", 512,
    )  # fmt: skip
    assert found.projects[0].rates == contract.RateLimits(tokens_per_minute=5)
    (told,) = found.tenants
    assert (told.refuse_after_s, told.files_days, told.share) == (3600, 3, 2)
    assert told.rates == contract.RateLimits(requests_per_minute=7)


def test_keys_come_with_what_they_reach_and_whose_place_they_took(snapshot, tenant):
    project = default_project(tenant)
    with scope.tenant(tenant.id):
        wanted = {"networks": ["10.0.0.0/8"], "verbs": ["chat"], "endpoints": [uuid.UUID(int=5)]}
        old, _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project, narrowed=wanted)
        key_rotate(key=old)
    first, second = snapshot().keys
    for found in (first, second):
        assert (found.networks, found.verbs) == (("10.0.0.0/8",), ("chat",))
        assert found.endpoints == (str(uuid.UUID(int=5)),)
    assert (first.earlier, second.earlier) == ((), (str(old.id),))
    assert second.line == (str(old.id), second.key_id)


def test_a_key_bound_to_a_revision_says_so_and_stays_so_when_it_is_replaced(snapshot, tenant):
    with scope.tenant(tenant.id):
        bound = {"ephemeral": True, "revision": uuid.UUID(int=7)}
        old, _ = key_mint(
            name="evaluation", key_scope=KeyScope.INFERENCE, project=default_project(tenant), **bound
        )
        assert [each.revision_id for each in snapshot().keys] == [str(uuid.UUID(int=7))]
        key_rotate(key=old)
    assert {each.revision_id for each in snapshot().keys} == {str(uuid.UUID(int=7))}


def test_the_verbs_of_keys_are_those_of_gateways():
    assert list(InferenceVerb.values) == list(contract.Verb)


def test_keys_of_a_disabled_service_account_are_left_out_at_once(snapshot, announced, tenant):
    with scope.tenant(tenant.id):
        account = service_account_create(name="ci", role="viewer")
        key, _ = key_mint(
            name="app", key_scope=KeyScope.INFERENCE, project=default_project(tenant), service_account=account
        )
        assert [each.key_id for each in snapshot().keys] == [str(key.id)]
        assert announced(lambda: service_account_change(account=account, active=False)) == 1
        assert snapshot().keys == ()
        service_account_change(account=account, active=True)
        assert len(snapshot().keys) == 1
        assert announced(lambda: service_account_remove(account=account)) == 1
        assert snapshot().keys == ()


def test_what_becomes_of_keys_is_announced(announced, tenant):
    with scope.tenant(tenant.id):
        keys = [
            key_mint(name=name, key_scope=KeyScope.INFERENCE, project=default_project(tenant))
            for name in "abc"
        ]
        assert announced(lambda: key_rotate(key=keys[0][0])) >= 1
        assert announced(lambda: keys_revoke(ids=[key.id for key, _ in keys[:2]])) >= 1
        assert announced(lambda: key_leaked(text=keys[2][1])) >= 1


def test_a_draining_replica_stays_and_says_so(snapshot, order, settle, tenant):
    endpoint = settle(order(replicas=2))
    (route,) = snapshot().endpoints[0].routes
    with scope.tenant(tenant.id):
        batch = Revision.objects.get(endpoint=endpoint).max_batch_size
        one = Replica.objects.filter(endpoint=endpoint).first()
    assert [(each.concurrency, each.draining) for each in route.replicas] == [(batch, False)] * 2
    with scope.tenant(tenant.id):
        Replica.objects.filter(id=one.id).update(phase=Replica.Phase.DRAINING)
    (route,) = snapshot().endpoints[0].routes
    assert {each.replica_id for each in route.replicas if each.draining} == {one.replica_id}
    assert len(route.replicas) == 2
    with scope.tenant(tenant.id):
        Replica.objects.filter(id=one.id).update(phase=Replica.Phase.GONE, gone_at=timezone.now())
    assert len(snapshot().endpoints[0].routes[0].replicas) == 1


def test_engines_of_a_retired_revision_finish_and_the_endpoint_is_not_ready(snapshot, order, settle, tenant):
    endpoint = settle(order())
    assert snapshot().endpoints[0].state == "ready"
    with scope.tenant(tenant.id):
        endpoint_pause(endpoint=endpoint, actor="a test")
    told = snapshot().endpoints[0]
    assert [each.draining for each in told.routes[0].replicas] == [True]
    assert told.state != "paused"  # its engines are not stopped yet
    assert fresh(endpoint).wanted == "paused"


@pytest.mark.parametrize(
    ("runtime", "features"),
    [
        ("triton-python", set()),
        ("triton-llmapi", set()),
        ("trtllm-serve", {"chat", "response_format", "logprobs", "logit_bias"}),
    ],
)
@pytest.mark.parametrize("tool_parser", ["", "qwen3"])
def test_features_are_those_of_the_runtime_and_tools_need_a_parser(
    snapshot, order, settle, runtime, features, tool_parser
):
    Cluster.objects.update(runtimes=[runtime])
    CatalogModel.objects.update(runtimes=[runtime], tool_parser=tool_parser)
    settle(order())
    CatalogModel.objects.update(tool_parser="")  # what runs goes on with what it was started with
    (replica,) = snapshot().endpoints[0].routes[0].replicas
    tools = {"tools"} if tool_parser and runtime == "trtllm-serve" else set()
    assert set(replica.features) == features | tools


def test_limits_fallbacks_and_sharing_of_an_endpoint(snapshot, order, tenant):
    small, chat = order("small"), order("chat")
    with scope.tenant(tenant.id):
        endpoint_limits_set(
            endpoint=chat, limits={"requests_per_minute": 5}, fallbacks=[small.id], actor="a test"
        )
        endpoint_share(endpoint=chat, shared=True, actor="a test")
    told = by_name(snapshot().endpoints, "chat")
    assert (told.rates.requests_per_minute, told.fallbacks, told.shared) == (5, (str(small.id),), True)
    assert by_name(snapshot().endpoints, "small").rates == contract.RateLimits()


def test_budgets_are_of_those_who_may_call(snapshot, order, tenant):
    chat, other = order("chat"), make_tenant("other")
    for each in (tenant, other):
        with scope.tenant(each.id):
            budget_create(name="June", unit="money", limit=Decimal(5), period="month")
    assert [each.tenant_id for each in snapshot().budgets] == [str(tenant.id)]
    with scope.tenant(tenant.id):
        endpoint_share(endpoint=chat, shared=True, actor="a test")
    assert {each.tenant_id for each in snapshot().budgets} == {str(tenant.id), str(other.id)}


def test_routes_are_where_one_of_their_targets_is(snapshot, estate, order, tenant):
    here, away = order("here"), order("away", residency="region:us-east-1")
    gone = order("gone", residency="region:us-east-1")
    gateway, _ = gateway_register(
        name="gw-us", region=Region.objects.get(code="us-east-1"), public_url="https://us.example.org/"
    )
    Gateway.objects.filter(id=gateway.id).update(last_seen_at=timezone.now())
    with scope.tenant(tenant.id):
        project = default_project(tenant)
        both = route_create(
            project=project, name="both", rules=[to(away, min_input_tokens=9), to(here, away)]
        )
        route_create(project=project, name="abroad", rules=[to(away), to(gone)])
    found = snapshot()
    (told,) = found.named_routes
    assert (told.route_id, told.name, len(told.rules), len(told.rules[1].targets)) == (
        str(both.id),
        "both",
        2,
        2,
    )
    urls = {each.name: each.urls for each in found.elsewhere}
    assert urls == dict.fromkeys(("away", "gone", "abroad"), ("https://us.example.org/v1",))
    assert {each.residency for each in found.elsewhere} == {"region:us-east-1"}
    assert read_snapshot(msgspec.json.encode(found), gateway="gw-de", region="eu-de-1") == found
    abroad = snapshot(gateway)
    assert {each.name for each in abroad.named_routes} == {"both", "abroad"}
    assert [each.name for each in abroad.elsewhere] == ["here"]
    assert abroad.elsewhere[0].urls == ()  # the gateway in Germany has no public address


def test_suspended_tenants_are_nowhere(snapshot, order, tenant):
    order("away", residency="region:us-east-1")
    tenant.state = "suspended"
    with scope.platform("a test"):
        tenant.save()
    found = snapshot()
    assert (found.tenants, found.projects, found.endpoints, found.elsewhere) == ((), (), (), ())


def test_gateways_that_count_do_not_flap(snapshot, estate, tenant):
    assert (snapshot().gateways, snapshot().gateways_here) == (1, 1)
    other, _ = gateway_register(name="gw-fi", region=Region.objects.get(code="eu-fi-1"))
    before = snapshot().version
    assert snapshot().gateways == 1  # nobody ever heard of it
    Gateway.objects.filter(id=other.id).update(last_seen_at=timezone.now())
    assert (snapshot().gateways, snapshot().gateways_here) == (2, 1)
    counted = snapshot().version
    assert counted != before
    long_ago = timezone.now().replace(year=2020)
    Gateway.objects.filter(id=other.id).update(last_seen_at=long_ago, confirmed_at=long_ago)
    assert snapshot().version == counted
    Gateway.objects.filter(id=other.id).update(cluster=estate.clusters["fi-a"], replicas=3)
    assert snapshot().gateways == 4
    Gateway.objects.filter(id=other.id).update(state=Gateway.State.REMOVING)
    assert snapshot().gateways == 1


def test_every_change_gives_another_version_and_is_announced(snapshot, order, tenant, announced, estate):
    chat, small = order("chat"), order("small")
    project = default_project(tenant)
    held: dict = {}

    def mint():
        held["key"], _ = key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project)

    def make_route():
        held["route"] = route_create(project=project, name="smart", rules=[to(chat)])

    changes = [
        mint,
        lambda: key_change(key=held["key"], limits={"tokens_per_minute": 9}),
        lambda: key_revoke(key=held["key"]),
        lambda: project_change(project=project, name="Renamed"),
        lambda: project_limits_set(project=project, limits={"requests_per_minute": 9}),
        lambda: project_create(name="More", slug="more"),
        lambda: tenant_choices_set(tenant=tenant, choices={"files_days": 30}),
        lambda: tenant_limits_set(tenant=tenant, share=3),
        lambda: endpoint_limits_set(endpoint=chat, fallbacks=[small.id], actor="a test"),
        lambda: endpoint_share(endpoint=chat, shared=True, actor="a test"),
        make_route,
        lambda: route_change(route=held["route"], rules=[to(small)]),
        lambda: route_delete(route=held["route"]),
        lambda: slo_class_change(slo_class=SloClass.objects.get(name="batch"), queue_s=30),
    ]
    for number, change in enumerate(changes):
        before = snapshot().version
        with scope.tenant(tenant.id):
            assert announced(change) >= 1, number
        assert snapshot().version != before, number
        with scope.tenant(tenant.id):
            if number not in (0, 2, 5, 10, 12):  # asked again, nothing changes
                assert announced(change) == 0, number
    other, _ = gateway_register(name="gw-fi", region=Region.objects.get(code="eu-fi-1"))
    assert announced(lambda: gateway_remove(gateway=other)) == 1


def test_as_many_queries_for_many_as_for_one(snapshot, order, estate, tenant):
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            snapshot()
        return len(queries)

    def fill(names) -> None:
        made = [order(name) for name in names]
        made.append(order(f"{names[0]}-away", residency="region:us-east-1"))
        with scope.tenant(tenant.id):
            project = default_project(tenant)
            for endpoint in made:
                key_mint(name="app", key_scope=KeyScope.INFERENCE, project=project)
                route_create(project=project, name=f"r-{endpoint.name}", rules=[to(endpoint)])

    fill(["one"])
    few = asked()
    fill(["two", "three"])
    make_tenant("more")
    assert asked() == few
