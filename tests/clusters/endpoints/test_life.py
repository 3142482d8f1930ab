"""From order to ready to gone, pass by pass, on a fake cluster and real PostgreSQL."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.costs import cost_summary
from billing.models import Allocation
from clusters.drivers.base import GiveUp, TryLater
from clusters.endpoints import services
from clusters.endpoints.reconcile import reconcile_endpoint
from clusters.endpoints.watch import remove_leaks, watch_cluster
from clusters.errors import Impossible
from clusters.inventory.services import cluster_cordon
from clusters.models import Cluster, Endpoint, Replica, Reservation, Revision
from clusters.specs import DeploymentSpec
from tenants import scope
from tenants.errors import Conflict, Invalid, OverQuota
from tests.clusters.endpoints.conftest import fresh

pytestmark = pytest.mark.django_db

WRITES = ("INSERT", "UPDATE", "DELETE")


def held_gpus(tenant):
    with scope.tenant(tenant.id):
        return sum(reservation.gpus for reservation in Reservation.objects.filter(released_at=None))


def test_an_order_becomes_ready_and_its_gpus_are_reserved_and_accounted(order, settle, tenant, cluster):
    endpoint = settle(order(replicas=2))
    assert (endpoint.state, endpoint.due_at) == ("ready", None)
    assert endpoint.ready_at is not None
    assert held_gpus(tenant) == 2
    with scope.tenant(tenant.id):
        assert Allocation.objects.filter(ended_at=None).count() == 2
        assert Replica.objects.filter(phase="ready").count() == 2
        revision = Revision.objects.get()
    assert cluster.specs[revision.deployment].labels["endpoint"] == str(endpoint.id)


def test_what_an_hour_costs_is_what_was_quoted(order, settle, tenant):
    endpoint = settle(order(slo_class="interactive", replicas=1))
    with scope.tenant(tenant.id):
        quoted = Decimal(Revision.objects.get().plan["configuration"]["price_per_hour"])
        Allocation.objects.update(started_at=timezone.now() - dt.timedelta(hours=1))
        cost = cost_summary(
            start=timezone.now() - dt.timedelta(hours=2), end=timezone.now() + dt.timedelta(hours=1)
        )
    (line,) = [each for each in cost.whole if str(endpoint.id) in each.group]
    assert quoted > 0
    assert abs(line.cost.allocation - quoted) < quoted / 1000


def test_the_cheapest_lawful_pool_is_chosen(order, tenant):
    order(residency="zone:EU", certifications=("C5",))
    with scope.tenant(tenant.id):
        revision = Revision.objects.get()
    # An L4 is cheapest, and of the clusters with one only de-a is certified C5.
    assert (revision.cluster.name, revision.gpu_type) == ("de-a", "l4")


def test_a_second_pass_over_a_settled_endpoint_writes_nothing(order, settle, cluster):
    endpoint = settle(order())
    before = list(cluster.writes)
    with CaptureQueriesContext(connection) as queries:
        assert reconcile_endpoint(endpoint.id) is None
    assert [q["sql"] for q in queries if q["sql"].startswith(WRITES)] == []
    assert cluster.writes == before


def test_watching_a_quiet_cluster_wakes_nobody(order, settle, estate):
    settle(order())
    assert sum(watch_cluster(each) for each in estate.clusters.values()) == 0


def test_a_dead_engine_is_noticed_its_gpu_time_ends_and_the_new_one_counts(
    order, settle, tenant, cluster, estate
):
    endpoint = settle(order())
    (name,) = cluster.specs
    cluster.crash(name)
    assert watch_cluster(estate.clusters["fi-a"]) + watch_cluster(estate.clusters["de-a"]) >= 1
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "degraded"
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        assert Allocation.objects.filter(ended_at=None).count() == 1
        assert Allocation.objects.exclude(ended_at=None).count() == 1


def test_deleting_repeats_until_the_cluster_shows_nothing_and_only_then_releases(
    order, settle, tenant, cluster
):
    endpoint = settle(order())
    cluster.slow_delete = True
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "deleting"
    assert held_gpus(tenant) == 1
    with scope.tenant(tenant.id):
        assert Allocation.objects.filter(ended_at=None).count() == 1
    cluster.slow_delete = False
    endpoint = settle(endpoint)
    assert endpoint.state == "deleted"
    assert endpoint.deleted_at is not None
    assert held_gpus(tenant) == 0
    with scope.tenant(tenant.id):
        assert Allocation.objects.filter(ended_at=None).count() == 0
    assert cluster.specs == {}


def test_the_name_of_a_deleted_endpoint_is_free_again(order, settle, tenant):
    endpoint = settle(order("chat"))
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
    settle(endpoint)
    order("chat")


def test_pause_gives_the_gpus_back_and_resume_makes_a_new_revision(order, settle, tenant):
    endpoint = settle(order())
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    assert settle(endpoint).state == "paused"
    assert held_gpus(tenant) == 0
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=endpoint, actor="a test")
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        assert sorted(Revision.objects.values_list("number", flat=True)) == [1, 2]


def test_scaling_up_holds_more_and_scaling_down_gives_back_when_released(order, settle, tenant, cluster):
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id):
        services.endpoint_scale(endpoint=endpoint, replicas=3, actor="a test")
    assert held_gpus(tenant) == 3
    assert settle(endpoint).state == "ready"
    with scope.tenant(tenant.id):
        services.endpoint_scale(endpoint=endpoint, replicas=1, actor="a test")
    assert held_gpus(tenant) == 3
    settle(endpoint)
    assert held_gpus(tenant) == 1
    assert len(next(iter(cluster.replicas.values()))) == 1


def test_scaling_beyond_the_quota_is_refused_and_changes_nothing(order, settle, tenant):
    endpoint = settle(order(replicas=1))
    with scope.tenant(tenant.id), pytest.raises(OverQuota, match="quota is 6 GPUs"):
        services.endpoint_scale(endpoint=endpoint, replicas=7, actor="a test")
    assert held_gpus(tenant) == 1


def test_an_order_over_the_quota_is_refused(order):
    with pytest.raises(OverQuota):
        order(replicas=7)


def test_a_residency_that_no_cluster_satisfies_names_the_demand_and_every_cluster(order):
    with pytest.raises(Impossible) as refused:
        order(residency="zone:CH")
    clusters = {name for refusal in refused.value.extra["refusals"] for name in refusal["clusters"]}
    assert clusters == {"de-a", "fi-a", "us-a"}
    assert all(refusal["reason"] == "residency" for refusal in refused.value.extra["refusals"])
    assert "zone:CH" in refused.value.message


def test_a_taken_name_is_refused(order):
    order("chat")
    with pytest.raises(Invalid, match="already"):
        order("chat")


def test_without_capacity_the_order_waits_and_takes_the_first_gpus_that_come_free(
    order, settle, tenant, cluster, estate
):
    for each in estate.clusters.values():
        each.state = Cluster.State.CORDONED
        each.save()
    endpoint = order()
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "waiting-for-capacity"
    assert held_gpus(tenant) == 0
    Cluster.objects.filter(name="fi-a").update(state=Cluster.State.ACTIVE)
    assert settle(endpoint).state == "ready"


def test_an_unreachable_cluster_shows_and_heals(order, settle, cluster):
    endpoint = settle(order())
    cluster.away = TryLater("connection refused", delay=7)
    assert reconcile_endpoint(endpoint.id) == 7
    shown = fresh(endpoint)
    assert (shown.state, shown.state_reason) == ("unreachable", "connection refused")
    cluster.away = None
    assert settle(endpoint).state == "ready"


def test_a_refused_spec_fails_with_the_clusters_own_words(order, cluster):
    endpoint = order()
    cluster.next_error = GiveUp("the image is not on the allow-list")
    reconcile_endpoint(endpoint.id)
    shown = fresh(endpoint)
    assert (shown.state, shown.state_reason) == ("failed", "the image is not on the allow-list")


def test_an_engine_that_gives_up_fails_the_endpoint_with_its_message(order, cluster, settle):
    endpoint = order()
    reconcile_endpoint(endpoint.id)
    (name,) = cluster.specs
    cluster.fail(name, "no space left on device")
    reconcile_endpoint(endpoint.id)
    shown = fresh(endpoint)
    assert shown.state == "failed"
    assert "no space left on device" in shown.state_reason


def test_it_is_not_ready_before_a_gateway_confirmed_the_route(order, cluster, estate):
    endpoint = order()
    reconcile_endpoint(endpoint.id)
    cluster.make_ready()
    estate.confirm_gateway()  # before the engine was written down: this snapshot cannot hold it
    for _ in range(2):
        assert reconcile_endpoint(endpoint.id) is not None
        assert fresh(endpoint).state == "provisioning"
    estate.confirm_gateway()
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "ready"


def test_a_long_message_of_an_engine_is_cut_and_shown(order, cluster):
    endpoint = order()
    reconcile_endpoint(endpoint.id)
    (name,) = cluster.specs
    cluster.fail(name, "no such file " * 100)
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "failed"
    assert len(fresh(endpoint).state_reason) == 300


def test_scaling_up_during_a_pass_keeps_its_gpus(order, settle, tenant, cluster, monkeypatch):
    endpoint = settle(order(replicas=1))
    observe = cluster.observe

    def scale_first(name):
        monkeypatch.setattr(cluster, "observe", observe)
        with scope.tenant(tenant.id):
            services.endpoint_scale(endpoint=endpoint, replicas=3, actor="a test")
        return observe(name)

    monkeypatch.setattr(cluster, "observe", scale_first)
    reconcile_endpoint(endpoint.id)
    assert held_gpus(tenant) == 3
    assert settle(endpoint).state == "ready"
    assert held_gpus(tenant) == 3


def test_resuming_before_the_gpus_are_released_does_not_hold_them_twice(order, settle, tenant, cluster):
    endpoint = settle(order(replicas=4))
    cluster.slow_delete = True
    with scope.tenant(tenant.id):
        services.endpoint_pause(endpoint=endpoint, actor="a test")
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        services.endpoint_resume(endpoint=endpoint, actor="a test")
    reconcile_endpoint(endpoint.id)
    assert held_gpus(tenant) == 4
    cluster.slow_delete = False
    assert settle(endpoint).state == "ready"
    assert held_gpus(tenant) == 4


def test_gpu_time_of_a_dead_engine_ends_where_its_successor_began(order, settle, tenant, cluster):
    endpoint = settle(order())
    (name,) = cluster.specs
    cluster.crash(name)
    began = cluster.replicas[name][0].started_at
    reconcile_endpoint(endpoint.id)
    with scope.tenant(tenant.id):
        assert Allocation.objects.exclude(ended_at=None).get().ended_at == began


def test_a_cordoned_cluster_that_was_away_is_cordoned_again_when_it_is_back(estate, cluster):
    seen = estate.clusters["fi-a"]
    cluster_cordon(cluster=Cluster.objects.get(id=seen.id), reason="repair")
    cluster.away = TryLater("refused")
    watch_cluster(seen)  # it was read before the cordon
    seen.refresh_from_db()
    assert (seen.state, seen.state_reason) == (Cluster.State.UNREACHABLE, "refused")
    cluster.away = None
    watch_cluster(seen)
    seen.refresh_from_db()
    assert (seen.state, seen.state_reason) == (Cluster.State.CORDONED, "repair")


def test_a_cordoned_cluster_that_dies_is_told_to_its_endpoints(order, settle, estate, cluster):
    endpoint = settle(order())
    with scope.platform("a test"):
        home = Revision.objects.select_related("cluster").get().cluster
    home.state = Cluster.State.CORDONED
    home.save()
    cluster.away = TryLater("refused")
    assert watch_cluster(home) == 1
    reconcile_endpoint(endpoint.id)
    assert fresh(endpoint).state == "unreachable"
    assert watch_cluster(home) == 0  # told once


def test_a_crash_after_the_mark_and_before_the_apply_is_made_good(order, cluster, settle, monkeypatch):
    endpoint = order()
    monkeypatch.setattr(cluster, "apply", lambda spec: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        reconcile_endpoint(endpoint.id)
    with scope.platform("a test"):
        assert Revision.objects.get().applied_at is not None
        assert Endpoint.objects.get().due_at is not None
    monkeypatch.undo()


def test_a_deleting_endpoint_takes_no_more_orders(order, settle, tenant):
    endpoint = settle(order())
    with scope.tenant(tenant.id):
        services.endpoint_delete(endpoint=endpoint, actor="a test")
        with pytest.raises(Conflict, match="being deleted"):
            services.endpoint_scale(endpoint=endpoint, replicas=2, actor="a test")
        services.endpoint_delete(endpoint=endpoint, actor="a test")  # repeating is safe


def test_what_nobody_wants_is_swept_away(order, settle, cluster, estate):
    settle(order())
    (wanted,) = cluster.specs
    cluster.apply(DeploymentSpec(
        name="leak", labels={}, runtime="triton-python", model="m", replicas=1, gpu_type="l4", gpus_per_replica=1,
        context_tokens=10, max_output_tokens=5, max_batch_size=1,
    ))  # fmt: skip
    with scope.platform("a test"):
        home = Revision.objects.select_related("cluster").get().cluster
    assert remove_leaks(home) == 1
    assert set(cluster.specs) == {wanted}
