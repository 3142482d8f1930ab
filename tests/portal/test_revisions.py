"""The tenant's pages of revisions, of replicas in trouble, and of its own credentials for weights."""

from __future__ import annotations

import pytest

from clusters.endpoints import services
from clusters.inventory.catalog import weights_secrets
from clusters.models import CatalogModel, Cluster, Endpoint, RenderedConfiguration, Replica, Revision
from tenants import scope

pytestmark = pytest.mark.django_db
MODEL = "llama-3.1-8b-instruct"


@pytest.fixture
def moved(world) -> Endpoint:
    """An endpoint with two revisions, the first of which is retired."""
    endpoint = world.order("chat")
    with scope.tenant(world.tenant.id):
        first = Revision.objects.select_related("cluster").get(endpoint=endpoint)
        other = Cluster.objects.filter(name__in=["de-a", "fi-a"]).exclude(id=first.cluster_id).get()
        services.endpoint_move(endpoint=endpoint, cluster=other, actor="operator olga@example.org")
        for revision in Revision.objects.filter(endpoint=endpoint):
            documents = {"a.yaml": f"replicas: {revision.number}\n"}
            RenderedConfiguration.objects.create(revision=revision, documents=documents)
        Revision.objects.filter(id=first.id).update(retired_at=endpoint.created_at)
        Endpoint.objects.filter(id=endpoint.id).update(cluster=None)
    return endpoint


def test_every_member_sees_what_changed_and_only_some_may_restore(world, moved):
    base = f"/t/nord/endpoints/{moved.id}/revisions"
    page = world.browser("viewer").get(f"{base}/2").content.decode()
    assert "-replicas: 1" in page
    assert "+replicas: 2" in page
    assert f"{base}/1/restore" not in world.browser("viewer").get(base).content.decode()
    assert f"{base}/1/restore" in world.browser("developer").get(base).content.decode()
    assert world.browser("viewer").get(f"{base}/1/restore").status_code == 403
    assert world.browser("stranger").get(f"{base}/2").status_code == 404
    assert world.browser("developer").get(f"{base}/9").status_code == 404


def test_restoring_says_what_happens_and_is_confirmed(world, moved):
    path = f"/t/nord/endpoints/{moved.id}/revisions/1/restore"
    browser = world.browser("developer")
    assert "per hour" in browser.get(path).content.decode()
    answer = browser.post(path, {"in_place": "1"}, follow=True)
    assert "brought back to the configuration of revision 1" in answer.content.decode()
    with scope.tenant(world.tenant.id):
        assert Endpoint.objects.get(id=moved.id).restoring == 1
        Endpoint.objects.filter(id=moved.id).update(wanted="paused")
    refused = browser.post(path)
    assert refused.status_code == 409
    assert "resume it first" in refused.content.decode()


def test_a_replica_in_trouble_says_what_to_do_and_its_node_stays_the_operators(world):
    endpoint = world.order("chat")
    with scope.tenant(world.tenant.id):
        revision = Revision.objects.get(endpoint=endpoint)
        Replica.objects.create(
            revision=revision, endpoint=endpoint, replica_id="r-1", index=0, phase="failed", node="gpu-7",
            trouble="OutOfMemory", restarts=3, memory={"weights": 2**30},
        )  # fmt: skip
    page = world.browser("viewer").get(f"/t/nord/endpoints/{endpoint.id}").content.decode()
    assert "It ran out of memory" in page
    assert "Order a shorter context" in page
    assert "1.0 GiB" in page
    assert "not available" in page
    assert "gpu-7" not in page


def test_own_credentials_are_set_replaced_and_removed_by_admins(world):
    CatalogModel.objects.filter(name=MODEL).update(weights_kind="object-store", weights_uri="s3://b/p")
    model = CatalogModel.objects.get(name=MODEL)
    page, path = f"/t/nord/catalog/{MODEL}", f"/t/nord/catalog/{MODEL}/secret"
    owner = world.browser("owner")
    assert "Set your own" in owner.get(page).content.decode()
    assert "Set your own" not in world.browser("developer").get(page).content.decode()
    assert world.browser("developer").get(path).status_code == 403
    refused = owner.post(path, {"values": "lower=hf_secret"})
    assert refused.status_code == 422
    assert "hf_secret" not in refused.content.decode()
    assert "Paste it again" in refused.content.decode()
    kept = owner.post(path, {"values": "HF_TOKEN=hf_secret"}, follow=True).content.decode()
    assert "Replace" in kept
    assert "hf_secret" not in kept
    assert weights_secrets(model, world.tenant.id) == {"HF_TOKEN": "hf_secret"}
    assert weights_secrets(model, world.other.id) == {}
    owner.post(f"{path}/remove")
    assert weights_secrets(model, world.tenant.id) == {}


def test_a_model_that_needs_no_credentials_asks_for_none(world):
    owner = world.browser("owner")
    assert "Credentials for its weights" not in owner.get("/t/nord/catalog/berth-docs-ngram").content.decode()
    assert owner.get("/t/nord/catalog/berth-docs-ngram/secret").status_code == 404
