"""The catalog, SLO classes and prices: changed, added, refused with everything kept."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from billing.models import Price
from clusters.endpoints.services import endpoint_quote
from clusters.inventory.services import pool_add
from clusters.models import CatalogModel, GpuType, SloClass
from tenants import scope
from tests.factories import make_user


@pytest.fixture
def operator(db):
    """The offer is operators', its prices are finance's: here somebody may do both."""
    return make_user("olga@example.org", is_superuser=True)


MODEL = {
    "name": "qwen2.5-7b-instruct", "title": "Qwen2.5 7B", "description": "Small and quick.", "licence": "Apache-2.0",
    "context_tokens": "32768", "allowed_zones": "EU", "published": "on", "runtimes": ["triton-llmapi"],
    "precisions": ["bf16", "fp8"], "chat_template": "{{ messages }}", "parameters": "7615616512",
    "active_parameters": "7615616512", "layers": "28", "hidden": "3584", "heads": "28", "kv_heads": "4",
    "head_size": "128", "vocabulary": "152064",
}  # fmt: skip
SLO = {
    "title": "Nightly", "description": "Until the morning.", "ttft_p95_ms": "", "itl_p95_ms": "",
    "availability": "0.98", "priority": "9", "price_factor": "0.4", "spare_replicas": "0", "attempts": "2",
    "connect_timeout_s": "2",
    "first_token_timeout_s": "600", "between_tokens_timeout_s": "60", "total_timeout_s": "3600", "queue_s": "60",
    "floor_percent": "5", "context_tokens": "", "on_overload": "refuse", "degraded_context_tokens": "",
    "backoff_s": "0.5", "backoff_most_s": "10", "credit_percent": "10", "cost_target": "",
    "idle_to_zero_s": "600", "wake_hold_s": "60", "high_water": "0.8", "low_water": "0.4", "quiet_s": "60",
    "rollout_ways": "surge, replace", "rollout_days": [], "rollout_from_hour": "0", "rollout_until_hour": "24",
    "rollout_steps": "", "rollout_step_s": "0", "rollout_requests": "100", "rollout_patience_s": "600",
    "rollout_little_traffic": "promote", "rollout_start_s": "3600", "rollout_ttft_factor": "", "rollout_itl_factor": "",
    "rollout_error_points": "1", "rollout_cost_factor": "1.5",
}  # fmt: skip
PRICE = {
    "kind": "gpu_hour",
    "amount": "3.10",
    "gpu_type": "h100_sxm",
    "region": "",
    "model": "",
    "slo_class": "",
}


def test_a_model_is_added_with_the_numbers_the_planner_needs(console, estate, acme):
    answer = console.post(reverse("console:model-add"), MODEL, follow=True)
    assert "Qwen2.5 7B is in the catalog." in answer.text
    model = CatalogModel.objects.get(name="qwen2.5-7b-instruct")
    assert model.architecture["kv_heads"] == 4
    assert model.allowed_zones == ["EU"]
    with scope.tenant(acme.id):
        assert endpoint_quote(terms=estate.terms(model=model.name)).message


def test_further_numbers_are_kept_where_a_model_has_them(console, estate):
    mixture = {
        "experts": "64",
        "experts_active": "8",
        "expert_size": "1408",
        "mlp_size": "",
        "tied_embeddings": "on",
    }
    console.post(reverse("console:model-add"), MODEL | mixture)
    numbers = CatalogModel.objects.get(name=MODEL["name"]).architecture
    assert (numbers["experts"], numbers["experts_active"], numbers["tied_embeddings"]) == (64, 8, 1)
    assert "mlp_size" not in numbers
    page = console.get(reverse("console:model", args=[MODEL["name"]])).text
    assert "Experts per token" in page
    assert "one table for input and output" in page


WEIGHTS = {
    "kind": "hugging-face", "uri": "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct", "revision": "abc",
    "size_gib": "15", "zones": "", "quantize_bf16": "", "quantize_fp8": "fp8",
}  # fmt: skip


def test_what_a_job_makes_is_noted_or_not_offered(console, estate):
    path = reverse("console:model-weights", args=["llama-3.1-8b-instruct"])
    assert (
        "Orders in fp8 are refused until its quality is noted."
        in console.post(path, WEIGHTS, follow=True).text
    )
    page = console.get(reverse("console:model", args=["llama-3.1-8b-instruct"])).text
    assert "Not offered in fp8" in page
    noted = {"note_fp8": "Two points worse at arithmetic.", "approval_fp8": "on"}
    answer = console.post(path, WEIGHTS | noted, follow=True)
    assert "refused until" not in answer.text
    assert "Not offered in fp8" not in answer.text
    assert "Orders must accept it" in answer.text
    model = CatalogModel.objects.get(name="llama-3.1-8b-instruct")
    assert model.precision_notes == {
        "fp8": {"note": "Two points worse at arithmetic.", "needs_approval": True}
    }
    form = console.get(path).context["form"]
    assert form["note_fp8"].value() == "Two points worse at arithmetic."
    assert form["approval_fp8"].value() is True


def test_approval_needs_something_to_approve_and_notes_are_not_endless(console, estate):
    path = reverse("console:model-weights", args=["llama-3.1-8b-instruct"])
    answer = console.post(path, WEIGHTS | {"approval_fp8": "on"})
    assert answer.status_code == 422
    assert "Write what an order has to accept." in answer.context["form"].errors["note_fp8"][0]
    assert console.post(path, WEIGHTS | {"note_fp8": "x" * 1001}).status_code == 422


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "llama-3.1-8b-instruct"}, "name"),
        ({"name": "Bad Name"}, "name"),
        ({"active_parameters": "9999999999999"}, "active_parameters"),
        ({"layers": "0"}, "layers"),
        ({"vocabulary": "many"}, "vocabulary"),
        ({"precisions": []}, "precisions"),
        ({"experts": "-1"}, "experts"),
        ({"experts": "8", "experts_active": "9"}, "experts_active"),
        ({"window_layers": "29", "window_tokens": "4096"}, "window_layers"),
    ],
)
def test_a_wrong_model_is_refused_beside_the_field_and_input_kept(console, estate, changes, field):
    answer = console.post(reverse("console:model-add"), MODEL | changes)
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert "Small and quick." in answer.text
    assert 'value="32768"' in answer.text


def test_a_model_is_taken_out_of_the_offer(console, estate):
    path = reverse("console:model-edit", args=["llama-3.1-8b-instruct"])
    form = {"title": "Llama 8B", "description": "x", "licence": "y", "allowed_zones": "EU, US"}
    assert "Not offered" in console.post(path, form, follow=True).text
    model = CatalogModel.objects.get(name="llama-3.1-8b-instruct")
    assert (model.published, model.allowed_zones, model.title) == (False, ["EU", "US"], "Llama 8B")
    assert model.architecture["layers"] == 32


def test_an_empty_title_is_refused_and_the_rest_kept(console, estate):
    path = reverse("console:model-edit", args=["llama-3.1-8b-instruct"])
    answer = console.post(
        path, {"title": "", "description": "kept words", "licence": "y", "allowed_zones": ""}
    )
    assert answer.status_code == 422
    assert "kept words" in answer.text


def test_an_slo_class_is_added_and_listed_without_targets(console, estate):
    answer = console.post(reverse("console:slo-add"), {**SLO, "name": "nightly"}, follow=True)
    assert "SLO class Nightly is added." in answer.text
    assert "98 %" in answer.text
    assert SloClass.objects.get(name="nightly").ttft_p95_ms is None


def test_targets_change_and_can_be_given_up(console, estate):
    path = reverse("console:slo-edit", args=["interactive"])
    assert console.post(path, {**SLO, "ttft_p95_ms": "450", "spare_replicas": "2"}).status_code == 302
    interactive = SloClass.objects.get(name="interactive")
    assert interactive.spare_replicas == 2
    assert (interactive.ttft_p95_ms, interactive.itl_p95_ms) == (450, None)
    assert interactive.availability == Decimal("0.98")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"availability": "1.5"}, "availability"),
        ({"price_factor": "0"}, "price_factor"),
        ({"spare_replicas": "-1"}, "spare_replicas"),
        ({"spare_replicas": "99"}, "spare_replicas"),
        ({"spare_replicas": ""}, "spare_replicas"),
        ({"first_token_timeout_s": "3601", "total_timeout_s": "10"}, "first_token_timeout_s"),
        ({"total_timeout_s": "10"}, "first_token_timeout_s"),
        ({"floor_percent": "85"}, "floor_percent"),
        ({"floor_percent": "-1"}, "floor_percent"),
        ({"queue_s": "3601"}, "queue_s"),
        ({"on_overload": "shorten"}, "degraded_context_tokens"),
        ({"context_tokens": "100", "degraded_context_tokens": "100"}, "degraded_context_tokens"),
        ({"backoff_s": "11"}, "backoff_most_s"),
    ],
)
def test_impossible_promises_are_refused_and_input_kept(console, estate, changes, field):
    answer = console.post(reverse("console:slo-edit", args=["interactive"]), SLO | changes)
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert "Until the morning." in answer.text
    assert SloClass.objects.get(name="interactive").title == "Interactive"


def test_policies_of_a_class_are_set_explained_and_listed(console, estate):
    path = reverse("console:slo-edit", args=["batch"])
    form = console.get(path).context["form"]
    assert (form["floor_percent"].value(), form["queue_s"].value()) == ("5", "60")
    shorter = {"on_overload": "shorten", "degraded_context_tokens": "2048", "floor_percent": "7"}
    listed = console.post(path, SLO | shorter, follow=True).text
    assert "shorter, 2,048 tokens" in listed
    batch = SloClass.objects.get(name="batch")
    assert (batch.floor, batch.on_overload, batch.queue_s) == (0.07, "shorten", 60)
    assert "sum to less than 100 %" in console.get(path).text


def test_a_price_supersedes_from_now_and_the_old_one_is_still_shown(console, estate):
    answer = console.post(reverse("console:price-add"), PRICE, follow=True)
    line = next(line for line in gpu_lines(answer) if line.subject[0] == "h100_sxm")
    assert line.now.amount == Decimal("3.10")
    assert [price.amount for price in line.superseded] == [Decimal("2.99")]


def test_a_price_for_later_leaves_todays_in_force(console, estate):
    later = timezone.now() + dt.timedelta(days=30)
    answer = console.post(
        reverse("console:price-add"), {**PRICE, "effective_from": f"{later:%Y-%m-%dT%H:%M}"}, follow=True
    )
    line = next(line for line in gpu_lines(answer) if line.subject[0] == "h100_sxm")
    assert line.now.amount == Decimal("2.99")
    assert [price.amount for price in line.coming] == [Decimal("3.10")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"effective_from": "2020-01-01T00:00"}, "effective_from"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "cheap"}, "amount"),
        ({"model": "llama-3.1-8b-instruct"}, "model"),
    ],
)
def test_a_wrong_price_is_refused_and_input_kept(console, estate, changes, field):
    before = Price.objects.count()
    answer = console.post(reverse("console:price-add"), {**PRICE, "note": "why not"} | changes)
    assert answer.status_code == 422
    assert answer.context["form"].errors[field]
    assert 'value="why not"' in answer.text
    assert Price.objects.count() == before


def test_what_has_no_price_is_told(console, estate):
    assert console.get(reverse("console:prices")).context["gaps"] == []
    gpu_type = GpuType.objects.get(name="a30")
    pool_add(cluster=estate.clusters["de-a"], name="old", gpu_type=gpu_type, nodes=1, gpus_per_node=4)
    console.post(reverse("console:model-add"), MODEL)
    page = console.get(reverse("console:prices")).text
    assert "its pools are not for sale" in page
    assert "No full token price for Qwen2.5 7B" in page
    assert "is not for sale" in console.get(reverse("console:home")).text


def test_the_form_opens_with_what_is_to_be_superseded(console, estate):
    line = next(line for line in gpu_lines(console.get(reverse("console:prices"))) if line.subject[0] == "l4")
    form = console.get(line.supersede_url).context["form"]
    assert form["kind"].value() == "gpu_hour"
    assert form["gpu_type"].value() == "l4"


def gpu_lines(answer) -> list:
    return answer.context["kinds"][0]["lines"]
