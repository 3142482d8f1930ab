"""Images, engine settings, weights and gateways in clusters, as operators keep them."""

from __future__ import annotations

import datetime as dt

import pytest
from django.urls import reverse
from django.utils import timezone

from clusters.inventory.catalog import weights_secrets
from clusters.inventory.images import image_set
from clusters.inventory.tuning import tuning_of
from clusters.models import CatalogModel, Cluster, EngineImage, Gateway, Region, SloClass

DIGEST = "sha256:" + "7" * 64
MODEL = "llama-3.1-8b-instruct"
TUNING = {
    "max_batch_size": "", "max_num_tokens": "16384", "scheduler_policy": "MAX_UTILIZATION",
    "chunked_prefill": "on", "stream_interval": "2", "kv_cache_fraction": "0.8", "kv_cache_dtype": "fp8",
    "attention_backend": "FLASHINFER", "cuda_graphs": "on", "drain_s": "30", "load_s": "900",
}  # fmt: skip


@pytest.fixture
def kubernetes(estate, settings) -> Cluster:
    settings.CONTROL_PLANE_URL = "https://berth.example.org"
    return Cluster.objects.create(
        name="k8s-de", region=Region.objects.get(code="eu-de-1"), driver="kubernetes", credentials=b"sealed",
        runtimes=["triton-llmapi"],
    )  # fmt: skip


def test_an_image_without_a_digest_says_what_it_blocks_until_it_is_pinned(console, estate):
    page = console.get(reverse("console:engine-images"))
    assert "No gateway can be deployed" in page.text
    path = reverse("console:engine-image", args=["gateway"])
    assert "crane digest" in console.get(path).text
    form = {
        "reference": "registry.example.com/gateway:1",
        "digest": DIGEST,
        "engine_version": "",
        "min_driver": "",
    }
    assert console.post(path, form | {"digest": "sha256:7"}).context["form"].errors["digest"]
    assert console.post(path, form | {"reference": "gateway"}).context["form"].errors["reference"]
    assert "is pinned" in console.post(path, form, follow=True).text
    assert EngineImage.objects.get(use="gateway").digest == DIGEST
    assert "No gateway can be deployed" not in console.get(reverse("console:engine-images")).text


def test_every_engine_setting_is_shown_for_every_class(console, estate):
    answer = console.get(reverse("console:engine-settings"))
    assert len(answer.context["rows"]) == 13
    for row in answer.context["rows"]:
        assert len(row["values"]) == SloClass.objects.count()
        assert row["knob"].why in answer.text.replace("&#x27;", "'")


def test_engine_settings_are_changed_for_new_revisions(console, estate):
    path = reverse("console:engine-settings-edit", args=["batch"])
    assert "revisions made from now on" in console.get(path).text
    assert (
        console.post(path, TUNING | {"kv_cache_fraction": "1.5"}).context["form"].errors["kv_cache_fraction"]
    )
    assert console.post(path, TUNING).status_code == 302
    now = tuning_of(SloClass.objects.get(name="batch"))
    assert (now.max_batch_size, now.max_num_tokens, now.kv_cache_dtype) == (None, 16384, "fp8")
    assert (now.kv_block_reuse, now.cuda_graphs, now.overlap_scheduler) == (False, True, False)
    assert "MAX_UTILIZATION" in console.get(reverse("console:engine-settings")).text


def test_where_weights_come_from_is_set_and_checked(console, estate):
    path = reverse("console:model-weights", args=[MODEL])
    form = {
        "kind": "hugging-face", "uri": "https://hf.example.org/meta/llama", "revision": "abc", "size_gib": "15",
        "zones": "EU", "quantize_bf16": "", "quantize_fp8": "fp8",
    }  # fmt: skip
    assert console.post(path, form | {"uri": "ftp://x"}).status_code == 422
    assert console.post(path, form | {"zones": "Mars"}).status_code == 422
    assert console.post(path, form).status_code == 302
    model = CatalogModel.objects.get(name=MODEL)
    assert (model.weights_uri, model.weights_zones) == ("https://hf.example.org/meta/llama", ["EU"])
    assert model.weights_quantize == {"fp8": "fp8"}
    assert "hf.example.org" in console.get(reverse("console:model", args=[MODEL])).text


def test_the_platforms_credentials_are_kept_and_never_shown(console, estate, acme):
    model = CatalogModel.objects.get(name=MODEL)
    CatalogModel.objects.filter(name=MODEL).update(weights_kind="object-store", weights_uri="s3://b/p")
    path = reverse("console:model-secret", args=[MODEL])
    refused = console.post(path, {"values": "hf_secret_value"})
    assert "is not NAME=value" in refused.text
    assert "Paste it again" in refused.text
    assert "hf_secret_value" not in refused.text
    kept = console.post(path, {"values": "export HF_TOKEN='hf_secret_value'\n# a comment\n"}, follow=True)
    assert "hf_secret_value" not in kept.text
    assert "Replace credentials" in kept.text
    model.refresh_from_db()
    assert weights_secrets(model, acme.id) == {"HF_TOKEN": "hf_secret_value"}
    assert "hf_secret_value" not in console.get(path).text
    console.post(reverse("console:model-secret-remove", args=[MODEL]))
    model.refresh_from_db()
    assert weights_secrets(model, acme.id) == {}


def test_a_gateway_is_deployed_on_a_cluster_once_its_image_is_pinned(console, kubernetes):
    path = reverse("console:gateway-deploy")
    form = {
        "name": "gw-k8s",
        "cluster": str(kubernetes.id),
        "replicas": "2",
        "storage_gib": "10",
        "public_url": "",
    }
    assert "not pinned" in console.get(path).text
    assert console.post(path, form).status_code == 422
    image_set(use="gateway", reference="registry.example.com/gateway:1", digest=DIGEST)
    answer = console.post(path, form, follow=True)
    assert "is being deployed on k8s-de" in answer.text
    gateway = Gateway.objects.get(name="gw-k8s")
    assert (gateway.region.code, gateway.state) == ("eu-de-1", "deploying")
    assert 'data-state="provisioning"' in console.get(reverse("console:gateways")).text
    Gateway.objects.filter(id=gateway.id).update(state="failed", state_reason="No <space> left.")
    assert "No &lt;space&gt; left." in console.get(reverse("console:gateway", args=["gw-k8s"])).text
    console.post(
        reverse("console:gateway-change", args=["gw-k8s"]),
        {"replicas": "3", "public_url": "https://gw.example.org"},
    )
    gateway.refresh_from_db()
    assert (gateway.replicas, gateway.public_url) == (3, "https://gw.example.org")
    old = gateway.token_digest
    console.post(reverse("console:gateway-token", args=["gw-k8s"]), {"confirm": "gw-k8s"})
    gateway.refresh_from_db()
    assert gateway.token_digest != old
    remove = reverse("console:gateway-remove", args=["gw-k8s"])
    assert "volumes" in console.get(remove).text
    assert console.post(remove, {"confirm": "other"}).status_code == 422
    console.post(remove, {"confirm": "gw-k8s"})
    gateway.refresh_from_db()
    assert gateway.state == "removing"


def test_a_silent_gateway_goes_only_when_the_loss_of_its_usage_is_confirmed(console, kubernetes):
    gateway = Gateway.objects.create(
        name="gw-k8s", region=kubernetes.region, cluster=kubernetes, token_digest="x", state="running",
        last_seen_at=timezone.now() - dt.timedelta(minutes=3),
    )  # fmt: skip
    remove = reverse("console:gateway-remove", args=["gw-k8s"])
    assert 'name="usage_is_lost"' in console.get(remove).text
    assert console.post(remove, {"confirm": "gw-k8s"}).status_code == 422
    gateway.refresh_from_db()
    assert gateway.state == "running"
    console.post(remove, {"confirm": "gw-k8s", "usage_is_lost": "on"})
    gateway.refresh_from_db()
    assert gateway.state == "removing"


def test_a_gateway_that_others_run_is_removed_at_once(console, estate):
    console.post(reverse("console:gateway-remove", args=["gw-de"]), {"confirm": "gw-de"})
    assert not Gateway.objects.filter(name="gw-de").exists()
