"""Each kind: made, changed, told what stays, and left alone the second time."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
import yaml
from django.core.management import CommandError
from django.utils import timezone

from billing.models import Book, Budget, Price
from clusters.inventory.tuning import tuning_of
from clusters.models import (
    AdvicePolicy,
    ApprovalRule,
    CatalogModel,
    Endpoint,
    EndpointScaling,
    EngineImage,
    NamedRoute,
    ScaleSchedule,
    SloClass,
    TenantPolicy,
    Wanted,
)
from tenants import scope
from tests.portal.configuration.conftest import CHAT, export, writes

pytestmark = pytest.mark.django_db


def document(kind: str, name: str, spec: dict, **metadata: str) -> str:
    head = {"apiVersion": "berth/v1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    return yaml.safe_dump(head, sort_keys=False)


def of_acme(kind: str, name: str, spec: dict, **metadata: str) -> str:
    return document(kind, name, spec, tenant="acme", **metadata)


def refused(apply, text: str) -> str:
    with pytest.raises(CommandError) as error:
        apply(text)
    return str(error.value)


def settled(apply, text: str) -> None:
    """Check that applying again changes nothing."""
    assert writes(lambda: apply(text)) == []


def order(name: str = "chat", **spec) -> str:
    values = yaml.safe_load(CHAT)
    values["metadata"]["name"] = name
    values["spec"] |= spec
    return yaml.safe_dump(values)


def endpoint(acme, name: str = "chat") -> Endpoint:
    with scope.tenant(acme.id):
        return Endpoint.objects.select_related("model", "slo_class").get(name=name, deleted_at=None)


class TestSloClass:
    gold = document(
        "SloClass", "gold",
        {"title": "Gold", "description": "Best.", "availability": 0.9995, "priority": 4, "price_factor": 2.5},
    )  # fmt: skip

    def test_is_added_and_changed(self, estate, apply):
        apply(self.gold)
        made = SloClass.objects.get(name="gold")
        assert (made.availability, made.price_factor) == (Decimal("0.9995"), Decimal("2.5"))
        settled(apply, self.gold)
        said = apply(document("SloClass", "gold", {"price_factor": 3, "ttft_p95_ms": 100}))
        assert "-price_factor: 2.5\n+price_factor: 3\n" in said
        made.refresh_from_db()
        assert (made.price_factor, made.ttft_p95_ms, made.title) == (3, 100, "Gold")

    def test_its_services_refusals_name_the_field(self, estate, apply):
        told = refused(apply, self.gold.replace("2.5", "-1"))
        assert "1.yaml:10: SloClass gold spec.price_factor: The factor on prices must be above 0." in told


class TestEngineSettings:
    def test_the_table_of_knobs_is_set(self, estate, apply):
        text = document("EngineSettings", "batch", {"max_num_tokens": 4096, "chunked_prefill": False})
        assert "+max_num_tokens: 4096" in apply(text)
        held = tuning_of(SloClass.objects.get(name="batch"))
        assert (held.max_num_tokens, held.chunked_prefill) == (4096, False)
        settled(apply, text)

    def test_a_class_that_there_is_not(self, estate, apply):
        assert "metadata.name: There is no SLO class 'gold'." in refused(
            apply, document("EngineSettings", "gold", {})
        )

    def test_bounds_and_names_are_told(self, estate, apply):
        told = refused(apply, document("EngineSettings", "batch", {"max_num_tokens": 1, "kv_cache": 1}))
        assert "spec.max_num_tokens: Ensure this value is greater than or equal to 64." in told
        assert "spec.kv_cache: There is no such field here. Did you mean kv_cache_dtype?" in told

    def test_a_class_and_its_settings_may_come_together(self, estate, apply):
        apply(document("EngineSettings", "gold", {"drain_s": 7}), TestSloClass.gold)
        assert tuning_of(SloClass.objects.get(name="gold")).drain_s == 7


class TestEngineImage:
    def test_is_pinned(self, estate, apply):
        text = document("EngineImage", "gateway", {"digest": "sha256:" + "a" * 64})
        apply(text)
        assert EngineImage.objects.get(use="gateway").digest == "sha256:" + "a" * 64
        settled(apply, text)
        told = refused(apply, document("EngineImage", "teapot", {"reference": "a/b:c", "digest": ""}))
        assert "metadata.name: Choose from" in told


class TestAdvicePolicy:
    def test_the_advisors_knobs_are_set(self, estate, apply):
        text = document("AdvicePolicy", "advisor", {"least_saving_percent": 7.5, "days": [5, 6]})
        apply(text)
        held = AdvicePolicy.current()
        assert (held.least_saving_percent, held.days) == (Decimal("7.5"), [5, 6])
        settled(apply, text)
        assert "metadata.name: The advisor has one policy" in refused(
            apply, document("AdvicePolicy", "a", {})
        )


class TestCatalogModel:
    def test_is_added_from_another_and_withdrawn(self, estate, apply):
        (like,) = [
            each for each in yaml.safe_load_all(export(kind=["CatalogModel"]))
            if each["metadata"]["name"] == "berth-docs-ngram"
        ]  # fmt: skip
        like["metadata"]["name"], like["spec"]["derived_from"] = "another", "berth-docs-ngram"
        text = yaml.safe_dump(like)
        apply(text)
        assert CatalogModel.objects.get(name="another").derived_from.name == "berth-docs-ngram"
        settled(apply, text)
        apply(document("CatalogModel", "another", {"published": False, "licence": "MIT"}))
        changed = CatalogModel.objects.get(name="another")
        assert (changed.published, changed.licence) == (False, "MIT")

    def test_what_it_was_planned_with_stays(self, estate, apply):
        told = refused(apply, document("CatalogModel", "berth-docs-ngram", {"context_tokens": 17}))
        assert "spec.context_tokens: What a model was planned with never changes." in told


class TestPriceBook:
    def price(self, amount: str, **more) -> dict:
        return {"kind": "gpu_hour", "gpu_type": "l4", "amount": amount, "currency": "EUR", **more}

    def list(self, *prices: dict) -> str:
        return document("PriceBook", "list", {"prices": list(prices)})

    def amounts(self) -> list[Decimal]:
        rows = Price.objects.filter(book=None, gpu_type="l4", region="", tenant=None).order_by(
            "effective_from"
        )
        return list(rows.values_list("amount", flat=True))

    def test_a_price_is_superseded_and_never_edited(self, estate, apply):
        (before,) = self.amounts()
        text = self.list(self.price("7.25"))
        said = apply(text)
        assert f"-  amount: {before.normalize():f}\n" in said
        assert "+  amount: 7.25\n" in said
        assert self.amounts() == [before, Decimal("7.25")]
        settled(apply, text)

    def test_one_to_come_is_kept_apart_and_cannot_be_edited(self, estate, apply):
        later = (timezone.now() + dt.timedelta(days=30)).replace(microsecond=0).isoformat()
        text = self.list(self.price("9", effective_from=later))
        apply(text)
        settled(apply, text)
        told = refused(apply, self.list(self.price("8", effective_from=later)))
        assert "spec.prices.0.effective_from: A price of 9 begins at this moment already." in told
        assert "1.yaml:11:" in told
        assert self.amounts()[-1] == 9

    def test_a_file_whose_time_has_come_does_not_take_an_increase_back(self, estate, apply, monkeypatch):
        (held,) = self.amounts()
        later = (timezone.now() + dt.timedelta(days=30)).replace(microsecond=0)
        text = self.list(self.price(f"{held}"), self.price("9", effective_from=later.isoformat()))
        apply(text)
        monkeypatch.setattr(timezone, "now", lambda: later + dt.timedelta(days=1))
        settled(apply, text)
        assert self.amounts() == [held, 9]
        apply(self.list(self.price("8")))  # by itself it is in force from the moment on
        assert self.amounts() == [held, 9, 8]

    def test_the_past_is_refused_with_its_line(self, estate, apply):
        told = refused(apply, self.list(self.price("9", effective_from="2025-01-01T00:00:00Z")))
        assert (
            "1.yaml:11: PriceBook list spec.prices.0.effective_from: A price cannot begin in the past" in told
        )

    def test_twice_the_same_is_refused(self, estate, apply):
        assert "spec.prices.1: This price is given twice" in refused(
            apply, self.list(self.price("9"), self.price("8"))
        )

    def test_a_tenants_own(self, acme, apply):
        text = self.list(self.price("5", tenant="acme"))
        apply(text)
        with scope.tenant(acme.id):
            assert Price.objects.get(tenant=acme).amount == 5
        settled(apply, text)

    def test_a_book_that_is_tried_is_as_its_file(self, estate, apply):
        both = [self.price("5"), self.price("6", region="eu-de-1")]
        text = document("PriceBook", "next year", {"prices": both})
        apply(text)
        with scope.platform("a test looks at a book"):
            book = Book.objects.get(name="next year")
            assert book.prices.count() == 2
        settled(apply, text)
        apply(document("PriceBook", "next year", {"prices": [self.price("4")]}))
        with scope.platform("a test looks at a book"):
            assert [price.amount for price in book.prices.all()] == [4]


class TestTenantPolicy:
    def test_is_set_and_what_is_left_out_stays(self, acme, apply):
        text = of_acme("TenantPolicy", "policy", {"allowed_zones": ["EU"], "most_per_hour": 12.5})
        apply(text)
        settled(apply, text)
        apply(of_acme("TenantPolicy", "policy", {"certifications": ["C5"]}))
        with scope.tenant(acme.id):
            held = TenantPolicy.objects.in_force()
        assert (held.version, held.allowed_zones, held.certifications) == (2, ["EU"], ["C5"])
        assert held.most_per_hour == Decimal("12.5")

    def test_there_is_one(self, acme, apply):
        assert "metadata.name: A tenant has one policy" in refused(apply, of_acme("TenantPolicy", "p", {}))

    def test_a_place_that_there_is_not(self, acme, apply):
        told = refused(apply, of_acme("TenantPolicy", "policy", {"allowed_zones": ["Atlantis"]}))
        assert "spec.allowed_zones: There is no zone or region 'Atlantis'." in told


class TestApprovalRule:
    def test_keeps_the_name_of_its_document(self, acme, apply):
        text = of_acme("ApprovalRule", "dear", {"kind": "price-above", "amount": 10})
        apply(text)
        settled(apply, text)
        assert "name: dear" in export(kind=["ApprovalRule"])
        apply(of_acme("ApprovalRule", "dear", {"amount": 5}))
        with scope.tenant(acme.id):
            assert [rule.amount for rule in ApprovalRule.objects.all()] == [5]
        told = refused(apply, of_acme("ApprovalRule", "dear", {"kind": "quota-above", "gpus": 1}))
        assert "spec.kind: A rule stays of its kind." in told

    def test_members_are_named_by_address(self, acme, apply):
        spec = {"kind": "price-above", "amount": 10, "decides": "members", "members": ["eve@example.org"]}
        assert "spec.members: eve@example.org is no member of the tenant." in refused(
            apply, of_acme("ApprovalRule", "dear", spec)
        )


class TestBudget:
    def test_is_made_for_a_project_and_changed(self, acme, apply):
        spec = {"unit": "money", "limit": 250, "period": "month"}
        text = of_acme("Budget", "Search", spec, project="default")
        apply(text)
        settled(apply, text)
        apply(of_acme("Budget", "Search", {"limit": 99.5, "alert_percents": [100, 50]}))
        with scope.tenant(acme.id):
            budget = Budget.objects.get()
        assert (budget.limit, budget.owner_kind, budget.alert_percents) == (
            Decimal("99.5"),
            "project",
            [50, 100],
        )
        told = refused(apply, of_acme("Budget", "Search", {"period": "day"}))
        assert "spec.period: Owner, unit, basis and period of a budget stay." in told
        assert "metadata.project: There is no project 'no'." in refused(
            apply, of_acme("Budget", "Other", spec, project="no")
        )


class TestNamedRoute:
    def test_names_endpoints_of_the_same_files(self, acme, apply):
        rules = [
            {"max_input_tokens": 2000, "targets": [{"endpoint": "small", "weight": 9}, {"endpoint": "chat"}]},
            {"targets": [{"endpoint": "chat"}]},
        ]
        text = of_acme("NamedRoute", "smart", {"rules": rules}, project="default")
        apply(text, order(), order("small"))
        with scope.tenant(acme.id):
            (route,) = NamedRoute.objects.all()
        assert route.rules[0]["max_input_tokens"] == 2000
        settled(apply, text)
        rules[1]["targets"][0]["endpoint"] = "large"
        told = refused(apply, of_acme("NamedRoute", "smart", {"rules": rules}))
        assert "spec.rules.1.targets.0.endpoint: There is no endpoint 'large'." in told


class TestEndpoint:
    def test_its_load_is_planned_anew(self, acme, apply):
        apply(order())
        said = apply(order(output_tokens=60, tokens_per_minute=90_000))
        assert "Endpoint chat (acme/default): changed." in said
        changed = endpoint(acme)
        assert (changed.output_tokens, changed.tokens_per_minute, changed.input_tokens) == (60, 90_000, 100)
        settled(apply, order(output_tokens=60, tokens_per_minute=90_000))

    def test_it_is_scaled_and_its_price_told(self, acme, apply):
        apply(order())
        said = apply(order(replicas=2), dry_run=True)
        before, after = said.split("Per hour: ")[1].split(" EUR")[0].split(" -> ")
        assert Decimal(after) == 2 * Decimal(before) > 0
        apply(order(replicas=2))
        assert endpoint(acme).replicas == 2

    def test_it_is_paused_and_resumed(self, acme, apply):
        apply(order())
        apply(order(state="paused"))
        assert endpoint(acme).wanted == Wanted.PAUSED
        apply(order())
        assert endpoint(acme).wanted == Wanted.PAUSED  # what a file leaves out stays as it is
        apply(order(state="running"))
        assert endpoint(acme).wanted == Wanted.RUNNING

    def test_two_may_stand_in_for_each_other(self, acme, apply):
        text = f"{order(fallbacks=['other'])}---\n{order('other', fallbacks=['chat'])}"
        apply(text)
        assert endpoint(acme).fallbacks == [endpoint(acme, "other").id]
        assert endpoint(acme, "other").fallbacks == [endpoint(acme).id]
        settled(apply, text)
        assert "spec.fallbacks.0: There is no endpoint 'gone'." in refused(apply, order(fallbacks=["gone"]))

    def test_a_named_profile_gives_what_is_not_given(self, acme, apply):
        apply(order(profile="chat"))
        assert (endpoint(acme).input_tokens, endpoint(acme).profile) == (100, "chat")
        settled(apply, order(profile="chat"))

    @pytest.mark.parametrize(
        ("spec", "told"),
        [
            ({"model": "gpt-9"}, "spec.model: There is no model 'gpt-9'."),
            ({"slo_class": "batch"}, "spec.slo_class: Cannot be changed"),
            ({"pins": {"precision": "int1"}}, "spec.pins.precision:"),
            ({"pins": {"gpus": "l4"}}, "spec.pins.gpus: There is no such field here. Did you mean gpu?"),
            ({"near": "Atlantis"}, "spec.near: There is no region or zone 'Atlantis'."),
            ({"replicas": 0}, "spec.replicas: Ensure this value is greater than or equal to 1."),
        ],
    )
    def test_what_is_wrong_is_told_with_its_field(self, acme, apply, spec, told):
        apply(order())
        assert told in refused(apply, order(**spec))

    def test_a_model_that_is_withdrawn_is_kept_and_not_gone_over_to(self, acme, apply):
        (like,) = [
            each for each in yaml.safe_load_all(export(kind=["CatalogModel"]))
            if each["metadata"]["name"] == "berth-docs-ngram"
        ]  # fmt: skip
        like["metadata"]["name"], like["spec"]["derived_from"] = "another", "berth-docs-ngram"
        apply(yaml.safe_dump(like), order())
        apply(document("CatalogModel", "another", {"published": False}))
        assert "spec.model: The model another is no longer offered." in refused(apply, order(model="another"))
        apply(document("CatalogModel", "berth-docs-ngram", {"published": False}))
        apply(order(output_tokens=60))
        assert endpoint(acme).output_tokens == 60

    def test_more_than_the_quota_is_refused_and_all_else_with_it(self, acme, apply):
        told = refused(apply, f"{order('first')}---\n{order('large', replicas=9)}")
        assert "Endpoint large" in told
        with scope.tenant(acme.id):
            assert not Endpoint.objects.exists()

    def test_its_replicas_follow_the_load_and_the_clock(self, acme, apply):
        night = {
            "name": "night", "days": [5, 1], "from_time": "20:00", "until_time": "06:00:00",
            "time_zone": "Europe/Berlin", "floor": 1,
        }  # fmt: skip
        spec = {"autoscaling": {"enabled": True, "floor": 1, "ceiling": 3}, "schedules": [night]}
        apply(order(**spec))
        settled(apply, order(**spec))
        with scope.tenant(acme.id):
            scaling = EndpointScaling.objects.get()
            assert (scaling.enabled, scaling.floor, scaling.ceiling) == (True, 1, 3)
            assert [each.days for each in ScaleSchedule.objects.all()] == [[1, 5]]
        # Replicas by hand switch it off; the file wants it on.
        apply(order(replicas=2, **spec))
        settled(apply, order(replicas=2, **spec))
        with scope.tenant(acme.id):
            assert EndpointScaling.objects.get().enabled
        apply(order(schedules=[], autoscaling={"enabled": False}))
        with scope.tenant(acme.id):
            assert not EndpointScaling.objects.get().enabled
            assert not ScaleSchedule.objects.exists()

    @pytest.mark.parametrize(
        ("spec", "told"),
        [
            ({"autoscaling": {"floor": 1}}, "spec.autoscaling.enabled: This field is required."),
            (
                {"autoscaling": {"enabled": True, "floor": 3, "ceiling": 2}},
                "spec.autoscaling.floor: The floor cannot",
            ),
            ({"schedules": [{"name": "night"}]}, "spec.schedules.0.days: This field is required."),
        ],
    )
    def test_bounds_that_are_wrong_are_told_with_their_field(self, acme, apply, spec, told):
        assert told in refused(apply, order(**spec))
        apply(order())
        assert told in refused(apply, order(**spec))

    def test_it_stays_in_its_project(self, acme, apply):
        apply(order())
        assert "metadata.project: It is in project default, and stays there." in refused(
            apply, order().replace("project: default", "project: other")
        )

    def test_a_tenant_or_project_is_asked_for(self, acme, apply):
        assert "metadata: Say whose it is" in refused(apply, order().replace("  tenant: acme\n", ""))
        assert "There is no tenant 'nobody'." in refused(apply, order().replace("acme", "nobody"))
        assert "metadata: Say in which project" in refused(apply, order().replace("  project: default\n", ""))
