"""Moving an endpoint, its revisions' configurations, and restoring one, from the console."""

from __future__ import annotations

import pytest
from django.urls import reverse

from clusters.endpoints import services
from clusters.models import Cluster, Endpoint, RenderedConfiguration, Replica, Revision
from tenants import scope


def fresh(endpoint: Endpoint) -> Endpoint:
    with scope.platform("look in a test"):
        return Endpoint.objects.select_related("cluster").get(id=endpoint.id)


def another(endpoint: Endpoint) -> Cluster:
    """Give a cluster in the EU on which it does not run."""
    with scope.platform("look in a test"):
        here = Revision.objects.filter(endpoint=endpoint, retired_at=None).latest("number").cluster_id
    return Cluster.objects.filter(name__in=["de-a", "fi-a"]).exclude(id=here).get()


@pytest.fixture
def moved(endpoint) -> Endpoint:
    """An endpoint with two revisions and what was told to their clusters."""
    with scope.tenant(endpoint.tenant_id):
        services.endpoint_move(endpoint=endpoint, cluster=another(endpoint), actor="test")
        for revision in Revision.objects.filter(endpoint=endpoint):
            documents = {"a.yaml": f"kind: <b>Deployment</b>\nreplicas: {revision.number}\n"}
            RenderedConfiguration.objects.create(revision=revision, documents=documents)
        Revision.objects.filter(endpoint=endpoint, number=1).update(retired_at=endpoint.created_at)
        Endpoint.objects.filter(id=endpoint.id).update(cluster=None)
    return endpoint


def test_an_operator_moves_an_endpoint_and_the_tenant_reads_who_did(console, endpoint):
    target = another(endpoint)
    path = reverse("console:endpoint-move", args=[endpoint.id])
    assert console.get(path).status_code == 200
    answer = console.post(path, {"cluster": target.name}, follow=True)
    assert "as soon as its engines are ready there" in answer.text
    assert "operator olga@example.org" in answer.text
    assert fresh(endpoint).cluster == target
    console.post(path, {"cluster": ""})
    assert fresh(endpoint).cluster is None


def test_a_move_that_cannot_be_is_refused_with_the_reason(console, endpoint):
    answer = console.post(reverse("console:endpoint-move", args=[endpoint.id]), {"cluster": "us-a"})
    assert answer.status_code == 422
    assert "us-a" in " ".join(answer.context["form"].errors["cluster"])
    assert fresh(endpoint).cluster is None


def test_a_revision_shows_its_documents_and_what_changed(console, moved):
    answer = console.get(reverse("console:endpoint-revision", args=[moved.id, 2]))
    assert "kind: &lt;b&gt;Deployment" in answer.text
    lines = [line["text"] for change in answer.context["changes"] for line in change["lines"]]
    assert "-replicas: 1" in lines
    assert "+replicas: 2" in lines
    first = console.get(reverse("console:endpoint-revision", args=[moved.id, 1]))
    assert first.context["against"] is None
    assert console.get(reverse("console:endpoint-revision", args=[moved.id, 9])).status_code == 404
    for odd in ("99", "x", "", "9" * 400):
        page = console.get(reverse("console:endpoint-revision", args=[moved.id, 2]), {"against": odd})
        assert page.context["against"] == 1


def test_a_revision_is_restored_after_saying_what_happens(console, moved):
    path = reverse("console:endpoint-restore", args=[moved.id, 1])
    assert "What runs now serves until the new one is ready" in console.get(path).text
    current = console.post(reverse("console:endpoint-restore", args=[moved.id, 2]))
    assert current.status_code == 422
    assert "It was not restored" in current.text
    answer = console.post(path, {"in_place": "1"}, follow=True)
    assert "brought back to the configuration of revision 1" in answer.text
    assert fresh(moved).restoring == 1


def test_replicas_show_node_trouble_restarts_and_memory_told_apart(console, endpoint):
    with scope.tenant(endpoint.tenant_id):
        revision = Revision.objects.get(endpoint=endpoint)
        Replica.objects.create(
            revision=revision, endpoint=endpoint, replica_id="r-1", index=0, phase="starting",
            node="gpu-7", trouble="ImagePull", message="manifest <unknown>", restarts=4,
            memory={"weights": 15 * 2**30, "kv_used": 2**30, "kv_max": 4 * 2**30},
        )  # fmt: skip
    page = console.get(reverse("console:endpoint", args=[endpoint.id])).text
    for text in (
        "gpu-7",
        "Its image cannot be pulled",
        "manifest &lt;unknown&gt;",
        "15.0 GiB",
        "1.0 GiB of 4.0 GiB",
    ):
        assert text in page
    assert "not available" in page
