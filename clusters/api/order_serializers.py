"""What may be sent to plan or order an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from clusters.api.autoscaling_serializers import AutoscalingBody
from clusters.api.plan_serializers import PRECISIONS
from clusters.endpoints.limits import MOST_FALLBACKS
from clusters.endpoints.planning import OrderTerms
from clusters.endpoints.profiles import completed
from clusters.models import CatalogModel, Cluster, GpuType, Region, SloClass
from clusters.planning.profiles import NAMED
from clusters.planning.search.sizing import BATCH_LIMIT
from tenants.api.fields import ReferenceField, StrictSerializer
from tenants.api.projects import project_field
from tenants.api.serializers import RatesBody, apart
from tenants.limits import RATES

MOST_TOKENS = 10_000_000
MOST_REPLICAS = 64
MOST_PARALLEL = 64


class PinsBody(StrictSerializer):
    """What Berth may not choose. What is left out or null, it chooses."""

    gpu = ReferenceField(
        find=lambda: GpuType.objects.all(), by="name", what="GPU type", required=False, allow_null=True,
        help_text="Name of a GPU type.",
    )  # fmt: skip
    cluster = ReferenceField(
        find=lambda: Cluster.objects.present(), by="name", what="cluster", required=False, allow_null=True,
        help_text="Name of a cluster.",
    )  # fmt: skip
    precision = serializers.ChoiceField(
        choices=PRECISIONS, required=False, allow_null=True, help_text="Of the weights."
    )
    tp = serializers.IntegerField(
        min_value=1, max_value=MOST_PARALLEL, required=False, allow_null=True,
        help_text="GPUs that share every layer.",
    )  # fmt: skip
    pp = serializers.IntegerField(
        min_value=1, max_value=MOST_PARALLEL, required=False, allow_null=True,
        help_text="Stages, one after the other.",
    )  # fmt: skip
    max_batch_size = serializers.IntegerField(
        min_value=1, max_value=BATCH_LIMIT, required=False, allow_null=True,
        help_text="Requests at once in one replica, at most.",
    )  # fmt: skip

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value.name if isinstance(value, GpuType | Cluster) else value
            for name, value in values.items()
            if value is not None
        }


def check_precisions(model: CatalogModel, asked: Mapping[str, Any]) -> None:
    """Check the precisions that an order names against those that its model is offered in.

    Raises:
        ValidationError: it is not offered so.
    """
    offered = ", ".join(model.precisions)
    pinned = asked.get("pins", {}).get("precision")
    if pinned is not None and pinned not in model.precisions:
        raise serializers.ValidationError(
            {"pins": {"precision": [f"{model.name} is offered in {offered}, not in {pinned}."]}}
        )
    strange = [name for name in asked.get("approved_precisions", ()) if name not in model.precisions]
    if strange:
        raise serializers.ValidationError(
            {"approved_precisions": [f"{model.name} is offered in {offered}, not in {', '.join(strange)}."]}
        )


class PlanRequest(StrictSerializer):
    """Model, SLO class, residency and expected load.

    ``residency`` is global, zone:EU or region:eu-de-1. A ``profile`` fills the numbers that are not given; numbers
    that are given win.
    """

    name = serializers.CharField(max_length=63, required=False, help_text="Not looked at in a plan.")
    project = project_field(required=False, help_text="Its slug.")
    model = ReferenceField(find=lambda: CatalogModel.objects.filter(published=True), by="name", what="model")
    slo_class = ReferenceField(find=lambda: SloClass.objects.all(), by="name", what="SLO class")
    residency = serializers.CharField(max_length=60, default="global")
    certifications = serializers.ListField(
        child=serializers.CharField(max_length=40), max_length=20, default=list, help_text="All must be held."
    )
    near = serializers.CharField(
        max_length=60, allow_blank=True, default="",
        help_text="Code of a region or zone that is preferred where it costs little more.",
    )  # fmt: skip
    profile = serializers.ChoiceField(
        choices=list(NAMED), allow_blank=True, default="",
        help_text="Name of a profile; see /profiles.",
    )  # fmt: skip
    requests_per_second = serializers.FloatField(
        min_value=0, max_value=1e6, default=1.0, help_text="The mean over a busy hour."
    )
    burstiness = serializers.FloatField(
        min_value=1, max_value=1e4, required=False,
        help_text="The busiest minute's rate over the mean. Without profile 1: steady.",
    )  # fmt: skip
    input_tokens = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, help_text="In the mean. Without profile 500."
    )
    input_cv = serializers.FloatField(
        min_value=0, max_value=10, required=False,
        help_text="Spread: standard deviation over mean. 0 is always the same. Without profile 1.",
    )  # fmt: skip
    output_tokens = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, help_text="In the mean. Without profile 200."
    )
    output_cv = serializers.FloatField(
        min_value=0, max_value=10, required=False, help_text="As input_cv. Without profile 1."
    )
    prefix_share = serializers.FloatField(
        min_value=0, max_value=0.99, required=False,
        help_text="Share of the input that other requests began with, too. Without profile 0.",
    )  # fmt: skip
    context_tokens = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, allow_null=True, required=False,
        help_text="Most tokens of a request with its answer. Left out: as profile or lengths suggest. "
        "Null: all of the model's.",
    )  # fmt: skip
    output_limit = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, allow_null=True, required=False,
        help_text="Most tokens of an answer. Left out: as profile or lengths suggest. "
        "Null: what the context leaves.",
    )  # fmt: skip
    replicas = serializers.IntegerField(
        min_value=1, max_value=MOST_REPLICAS, allow_null=True, default=None,
        help_text="Null: as many as load, bursts and the class need.",
    )  # fmt: skip
    pins = PinsBody(required=False)
    approved_precisions = serializers.ListField(
        child=serializers.ChoiceField(choices=PRECISIONS), max_length=len(PRECISIONS), default=list,
        help_text="Precisions whose quality note is accepted; the model's precision_notes say which need it.",
    )  # fmt: skip

    def validate_near(self, near: str) -> str:
        if near and near not in {
            code for region in Region.objects.all() for code in (region.code, *region.zones)
        }:
            raise serializers.ValidationError(f"There is no region or zone {near!r}.")
        return near

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        asked = dict(values)
        order = {name: asked.pop(name) for name in ("name", "project") if name in asked}
        model = asked["model"]
        check_precisions(model, asked)
        for name in ("certifications", "approved_precisions"):
            asked[name] = tuple(dict.fromkeys(asked[name]))
        return {**order, "terms": OrderTerms(**completed(asked, model))}


class EndpointLimits(RatesBody):
    """What an endpoint may be asked a minute, and who takes its requests when it is full."""

    fallbacks = serializers.ListField(
        child=serializers.UUIDField(), max_length=MOST_FALLBACKS, required=False,
        help_text="Ids of endpoints that take its requests, in order, where its class says so.",
    )  # fmt: skip


class EndpointOrder(EndpointLimits, PlanRequest):
    """An order: what to run, for whom, under which name."""

    name = serializers.CharField(max_length=63, help_text="The model name that clients of the endpoint send.")
    project = project_field(help_text="Its slug.")
    autoscaling = AutoscalingBody(
        required=False, help_text="Between what its replicas follow the load. Left out: they do not."
    )

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        limits = {name: values.pop(name) for name in RATES if name in values}
        fallbacks, scaling = values.pop("fallbacks", []), values.pop("autoscaling", None)
        return {**super().validate(values), "limits": limits, "fallbacks": fallbacks, "scaling": scaling}


class EndpointChange(EndpointLimits):
    """Only what is sent is changed."""

    replicas = serializers.IntegerField(min_value=1, max_value=MOST_REPLICAS, required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            raise serializers.ValidationError(f"Send one of {', '.join(self.fields)}.")
        return apart(values, RATES)
