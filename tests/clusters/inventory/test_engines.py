"""Images, engine settings, and where weights come from: the tables that operators keep."""

from __future__ import annotations

import pytest

from clusters.inventory import catalog, images, tuning
from clusters.inventory.services import region_register
from clusters.models import CatalogModel, ClassTuning, EngineImage, ModelSecret, SloClass
from clusters.specs import Tuning, WeightsKind
from tenants import scope
from tenants.errors import Invalid
from tenants.sealing import CannotOpen
from tests.estate import bootstrap
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

DIGEST = "sha256:" + "a" * 64
REFERENCE = "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3"


@pytest.fixture(autouse=True)
def _tables(region):
    """The tables as every installation begins with them."""


@pytest.fixture
def model():
    return CatalogModel.objects.get(name="llama-3.1-8b-instruct")


def test_every_runtime_begins_with_an_image_that_nobody_has_pinned():
    assert set(catalog.RUNTIMES) | {"gateway", "loader"} == set(
        EngineImage.objects.values_list("use", flat=True)
    )
    assert images.unpinned() == set(images.DEFAULTS)
    assert images.image_of("triton-llmapi") is None
    assert images.min_drivers()["triton-llmapi"] == "590.44.01"


def test_a_pinned_image_is_what_engines_start_from_and_survives_a_bootstrap():
    images.image_set(use="triton-llmapi", reference=REFERENCE, digest=DIGEST, min_driver="590.44.01")
    bootstrap()
    image = images.image_of("triton-llmapi")
    assert image.pinned == f"{REFERENCE}@{DIGEST}"
    assert "triton-llmapi" not in images.unpinned()
    images.image_set(use="triton-llmapi", reference=REFERENCE, digest="")
    assert images.image_of("triton-llmapi") is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use": "vllm"}, "use"),
        ({"reference": "tritonserver"}, "reference"),
        ({"reference": "nvcr.io/nvidia/tritonserver"}, "reference"),
        ({"reference": "nvcr.io/nvidia/tritonserver:26.07@sha256:0"}, "reference"),
        ({"digest": "26.07"}, "digest"),
        ({"min_driver": "new"}, "min_driver"),
    ],
)
def test_images_are_checked(changes, field):
    with pytest.raises(Invalid) as refused:
        images.image_set(**{"use": "loader", "reference": REFERENCE, "digest": DIGEST} | changes)
    assert field in refused.value.errors


def test_every_class_has_engine_settings_that_fit_it():
    interactive = tuning.tuning_of(SloClass.objects.get(name="interactive"))
    batch = tuning.tuning_of(SloClass.objects.get(name="batch"))
    assert ClassTuning.objects.count() == SloClass.objects.count()
    assert interactive.scheduler_policy == "GUARANTEED_NO_EVICT"
    assert batch.scheduler_policy == "MAX_UTILIZATION"
    assert interactive.max_num_tokens < batch.max_num_tokens


def test_engine_settings_can_be_changed_and_survive_a_bootstrap():
    slo_class = SloClass.objects.get(name="standard")
    tuning.tuning_change(slo_class=slo_class, max_batch_size=None, max_num_tokens=1024, kv_cache_dtype="fp8")
    bootstrap()
    settings = tuning.tuning_of(slo_class)
    assert isinstance(settings, Tuning)
    assert (settings.max_batch_size, settings.max_num_tokens, settings.kv_cache_dtype) == (None, 1024, "fp8")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"kv_cache_fraction": 1.5}, "kv_cache_fraction"),
        ({"scheduler_policy": "FASTEST"}, "scheduler_policy"),
        ({"turbo": True}, "turbo"),
        ({"max_batch_size": 512, "max_num_tokens": 256}, "max_num_tokens"),
    ],
)
def test_engine_settings_are_checked(values, field):
    with pytest.raises(Invalid) as refused:
        tuning.tuning_change(slo_class=SloClass.objects.get(name="standard"), **values)
    assert field in refused.value.errors


@pytest.mark.parametrize(
    ("kind", "uri", "revision"),
    [
        ("pvc", "weights/llama-3.1-8b", ""),
        ("object-store", "s3://models/llama", ""),
        ("object-store", "https://store.example.org/models/llama", ""),
        ("hugging-face", "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct", "0e9e39f"),
        ("oci-image", f"registry.example.org/models/llama@{DIGEST}", ""),
        ("built-in", "", ""),
    ],
)
def test_weights_can_come_from_anywhere_that_the_address_fits(model, kind, uri, revision):
    catalog.model_weights_set(
        model=model, kind=kind, uri=uri, revision=revision, zones=["EU"], quantize={"fp8": "fp8"}
    )
    weights = catalog.weights_of(CatalogModel.objects.get(id=model.id), precision="fp8")
    assert (weights.kind, weights.uri, weights.revision, weights.quantize) == (
        WeightsKind(kind),
        uri,
        revision,
        "fp8",
    )
    assert catalog.weights_of(model, precision="bf16").quantize == ""


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "ftp"}, "weights_kind"),
        ({"kind": "pvc", "uri": "../etc"}, "weights_uri"),
        ({"kind": "pvc", "uri": "claim/../../etc"}, "weights_uri"),
        ({"kind": "object-store", "uri": "s3:/models"}, "weights_uri"),
        ({"kind": "object-store", "uri": "http://store.example.org/models"}, "weights_uri"),
        (
            {"kind": "hugging-face", "uri": "https://user:pw@huggingface.co/a/b", "revision": "1"},
            "weights_uri",
        ),
        ({"kind": "hugging-face", "uri": "https://huggingface.co/a/b"}, "weights_revision"),
        ({"kind": "oci-image", "uri": "registry.example.org/models/llama:latest"}, "weights_uri"),
        ({"kind": "built-in", "uri": "s3://models"}, "weights_uri"),
        ({"kind": "object-store", "uri": "s3://models", "zones": ["ATLANTIS"]}, "weights_zones"),
        ({"kind": "object-store", "uri": "s3://models", "quantize": {"fp8": "magic"}}, "weights_quantize"),
        ({"kind": "object-store", "uri": "s3://models", "quantize": {"int1": "fp8"}}, "weights_quantize"),
    ],
)
def test_weights_are_checked_before_they_are_written(model, changes, field):
    before = model.weights_kind, model.weights_uri
    with pytest.raises(Invalid) as refused:
        catalog.model_weights_set(model=model, **changes)
    assert field in refused.value.errors
    kept = CatalogModel.objects.get(id=model.id)
    assert (kept.weights_kind, kept.weights_uri) == before


def test_the_places_of_weights_are_regions_with_all_that_they_belong_to(model):
    region_register(code="us-1", name="US", country="US", zones=["US"], certifications=[])
    catalog.model_weights_set(model=model, kind="object-store", uri="s3://m", zones=["eu-de-1"])
    assert catalog.weights_places(model) == {"eu-de-1", "EU", "EEA"}


def test_a_tenants_secret_goes_before_the_platforms(model, tenant):
    other = make_tenant("globex")
    assert catalog.weights_secrets(model, tenant.id) == {}
    catalog.model_secret_set(model=model, values={"HF_TOKEN": "platform", "HF_HOME": "/cache"})
    with scope.tenant(tenant.id):
        catalog.tenant_model_secret_set(model=model, values={"HF_TOKEN": "acme"})
    assert catalog.weights_secrets(model, tenant.id) == {"HF_TOKEN": "acme"}
    assert catalog.weights_secrets(model, other.id) == {"HF_TOKEN": "platform", "HF_HOME": "/cache"}
    with scope.tenant(tenant.id):
        assert catalog.tenant_model_secret_set(model=model, values={}) is None
    assert catalog.weights_secrets(model, tenant.id)["HF_TOKEN"] == "platform"
    catalog.model_secret_set(model=model, values={})
    assert catalog.weights_secrets(model, tenant.id) == {}


def test_secrets_are_sealed_for_their_row(model, tenant):
    with scope.tenant(tenant.id):
        secret = catalog.tenant_model_secret_set(model=model, values={"HF_TOKEN": "hunter2"})
    assert b"hunter2" not in bytes(secret.sealed)
    other = make_tenant("globex")
    with scope.tenant(other.id):
        ModelSecret.objects.create(tenant_id=other.id, model=model, sealed=bytes(secret.sealed))
    with pytest.raises(CannotOpen):
        catalog.weights_secrets(model, other.id)


@pytest.mark.parametrize("values", [{"hf token": "x"}, {"HF_TOKEN": ""}, {"HF_TOKEN": 1}, {"LD=X": "y"}])
def test_secrets_must_be_variables(model, values):
    with pytest.raises(Invalid):
        catalog.model_secret_set(model=model, values=values)
