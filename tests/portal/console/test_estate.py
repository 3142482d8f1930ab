"""Regions, clusters and node pools: what is shown, what is registered, what is refused."""

from __future__ import annotations

import logging

from django.urls import reverse
from django.utils import timezone

from clusters.models import Cluster, GpuType, NodePool, Region, Reservation, Revision
from tenants import scope

POOL = {"name": "b200", "nodes": "2", "gpus_per_node": "8", "reserve": "3"}


def test_the_list_says_how_full_clusters_are_and_that_gpus_are_declared(console, endpoint):
    page = console.get(reverse("console:clusters")).text
    assert "Declared GPUs" in page
    assert "de-a" in page
    assert "eu-de-1" in page
    assert "never" in page  # no worker has looked at them yet


def test_a_cluster_shows_who_holds_gpus_on_which_node(console, endpoint):
    cluster = endpoint_pool(endpoint).cluster
    answer = console.get(reverse("console:cluster", args=[cluster.name]))
    assert reverse("console:endpoint", args=[endpoint.id]) in answer.text
    nodes = [node for pool in answer.context["pools"] for node in pool["nodes"]]
    for node in nodes:
        assert node["held"] + node["reserve"] + node["free"] == node["total"]


def test_names_of_tenants_are_escaped(console, endpoint):
    assert "Acme <b>" not in console.get(reverse("console:endpoints")).text


def test_a_region_is_registered(console, db, caplog, django_capture_on_commit_callbacks):
    form = {"code": "eu-at-1", "name": "Vienna", "country": "at", "zones": "EU, EEA", "certifications": ""}
    with caplog.at_level(logging.INFO, "berth.operator"), django_capture_on_commit_callbacks(execute=True):
        answer = console.post(reverse("console:region-register"), form, follow=True)
    assert "Region eu-at-1 is registered." in answer.text
    region = Region.objects.get(code="eu-at-1")
    assert (region.country, region.zones, region.certifications) == ("AT", ["EU", "EEA"], [])
    assert "operator=olga@example.org action=region.register" in caplog.text


def test_a_region_that_exists_is_refused_and_the_form_keeps_what_was_typed(console, estate):
    form = {
        "code": "eu-de-1",
        "name": "Elsewhere",
        "country": "DE",
        "zones": "EU",
        "certifications": "C5, ISO27001",
    }
    answer = console.post(reverse("console:region-register"), form)
    assert answer.status_code == 422
    assert "already exists" in answer.text
    for typed in ("Elsewhere", "C5, ISO27001"):
        assert f'value="{typed}"' in answer.text


def test_a_cluster_is_registered_and_asks_for_its_pools(console, estate):
    form = {
        "name": "de-b", "region": str(Region.objects.get(code="eu-de-1").id), 
        "runtimes": ["triton-python"], "declared": "on",
    }  # fmt: skip
    answer = console.post(reverse("console:cluster-register-local"), form)
    assert answer["Location"] == reverse("console:pool-add", args=["de-b"])
    assert Cluster.objects.get(name="de-b").declared


def test_a_local_cluster_without_a_region_is_refused_and_input_kept(console, estate):
    form = {"name": "here", "runtimes": "triton-python"}
    answer = console.post(reverse("console:cluster-register-local"), form)
    assert answer.status_code == 422
    assert answer.context["form"].errors["region"]
    assert 'value="here"' in answer.text


def test_a_taken_cluster_name_is_refused_beside_its_field(console, estate):
    form = {
        "name": "de-a", "region": str(Region.objects.first().id), "runtimes": "triton-python",
    }  # fmt: skip
    answer = console.post(reverse("console:cluster-register-local"), form)
    assert answer.status_code == 422
    assert answer.context["form"].errors["name"]


def test_a_pool_is_added(console, estate):
    form = {**POOL, "gpu_type": str(GpuType.objects.get(name="b200_sxm").id)}
    answer = console.post(reverse("console:pool-add", args=["de-a"]), form, follow=True)
    assert "16 GPUs" in answer.text
    pool = NodePool.objects.get(cluster__name="de-a", name="b200")
    assert (pool.nodes, pool.gpus_per_node, pool.reserve) == (2, 8, 3)


def test_a_reserve_larger_than_the_pool_is_refused_and_input_kept(console, estate):
    form = {**POOL, "reserve": "17", "gpu_type": str(GpuType.objects.get(name="b200_sxm").id)}
    answer = console.post(reverse("console:pool-add", args=["de-a"]), form)
    assert answer.status_code == 422
    assert answer.context["form"].errors["reserve"]
    assert 'value="17"' in answer.text
    assert not NodePool.objects.filter(name="b200").exists()


def test_a_pool_grows_but_never_below_what_is_held(console, endpoint):
    pool = endpoint_pool(endpoint)
    path = reverse("console:pool-change", args=[pool.cluster.name, pool.name])
    console.post(path, {"nodes": "5", "reserve": "2", "higher_share": "50"})
    pool.refresh_from_db()
    assert (pool.nodes, pool.reserve) == (5, 2)
    hold(endpoint, node=3)
    answer = console.post(path, {"nodes": "3", "reserve": "0", "higher_share": "50"})
    assert answer.status_code == 422
    assert "node 3 is in use" in answer.text
    pool.refresh_from_db()
    assert pool.nodes == 5


def test_cordoning_needs_a_reason_which_everybody_reads(console, estate):
    path = reverse("console:cluster-cordon", args=["de-a"])
    assert console.post(path, {"reason": "  "}).status_code == 422
    assert "driver update" in console.post(path, {"reason": "driver update"}, follow=True).text
    assert Cluster.objects.get(name="de-a").state == "cordoned"
    assert "driver update" in console.get(reverse("console:home")).text
    answer = console.post(reverse("console:cluster-uncordon", args=["de-a"]), follow=True)
    assert "takes new endpoints again" in answer.text
    assert Cluster.objects.get(name="de-a").state == "active"


def test_why_a_cluster_is_cordoned_stands_beside_that_it_does_not_answer(console, estate):
    Cluster.objects.filter(name="de-a").update(state="unreachable", state_reason="No answer in 5 s.")
    shown = console.post(
        reverse("console:cluster-cordon", args=["de-a"]), {"reason": "driver update"}, follow=True
    ).text
    assert "No answer in 5 s." in shown
    assert "driver update" in shown
    assert "driver update" in console.get(reverse("console:home")).text
    assert "Cordoned" in console.get(reverse("console:clusters")).text
    answer = console.post(reverse("console:cluster-uncordon", args=["de-a"]), follow=True)
    assert "as soon as it answers" in answer.text
    assert Cluster.objects.get(name="de-a").state == "unreachable"


def test_a_lost_cluster_is_given_up_after_its_name_is_typed(console, endpoint):
    with scope.tenant(endpoint.tenant_id):
        name = Revision.objects.select_related("cluster").get(endpoint=endpoint).cluster.name
    path = reverse("console:cluster-lost", args=[name])
    assert "is not away" in console.get(path).text
    assert console.post(path, {"confirm": name}).status_code == 409
    Cluster.objects.filter(name=name).update(state="unreachable", last_seen_at=timezone.now())
    assert (
        reverse("console:cluster-lost", args=[name])
        in console.get(reverse("console:cluster", args=[name])).text
    )
    asked = console.get(path).text
    assert "1 endpoints let go of it" in asked
    assert "when the cluster was last seen" in asked
    assert console.post(path, {"confirm": "other"}).status_code == 422
    shown = console.post(path, {"confirm": name}, follow=True)
    assert "Declared lost by operator olga@example.org" in shown.text
    with scope.tenant(endpoint.tenant_id):
        assert not Revision.objects.filter(endpoint=endpoint, cleaned_at=None).exists()


def test_what_is_not_cordoned_cannot_be_uncordoned(console, estate):
    answer = console.post(reverse("console:cluster-uncordon", args=["de-a"]))
    assert answer.status_code == 409
    assert "not cordoned" in answer.text


def endpoint_pool(endpoint) -> NodePool:
    return reservation(endpoint).pool


def hold(endpoint, *, node: int) -> None:
    held = reservation(endpoint)
    held.nodes = [node]
    with scope.tenant(endpoint.tenant_id):
        held.save(update_fields=["nodes"])


def reservation(endpoint) -> Reservation:
    with scope.tenant(endpoint.tenant_id):
        return Reservation.objects.select_related("pool__cluster").get(endpoint=endpoint)
